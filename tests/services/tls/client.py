"""A client over one TLS connection: URL CA COUNT GO LOG.

Asks for /before, waits until the file GO is there (`-`: not at all), then asks for /N COUNT times and writes what it was answered.
"""

import http.client
import os
import ssl
import sys
import time
import urllib.parse

url, ca, count, go, log = sys.argv[1:]
parts = urllib.parse.urlsplit(url)
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=context)


def ask(path):
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    return response.status, len(body)


if go != "-":
    ask("/before")
    print("connected", flush=True)
    while not os.path.exists(go):
        time.sleep(0.02)
with open(log, "w") as out:
    for number in range(int(count)):
        status, _ = ask(f"{parts.path}/{number}")
        out.write(f"GET {parts.path}/{number} {status}\n")
        time.sleep(0.01)
    # Its secret is looked for while it is open.
    time.sleep(1 if go != "-" else 0)
    out.write("done\n")
