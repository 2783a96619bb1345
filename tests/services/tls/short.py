"""A client that opens a connection for each request: URL CA COUNT PER_SECOND SECRET.

The secret goes along as a password and as a cookie. SSLKEYLOGFILE names the file for the connections' secrets.
"""

import socket
import ssl
import sys
import time
import urllib.parse

url, ca, count, per_second, secret = sys.argv[1:]
parts = urllib.parse.urlsplit(url)
context = ssl.create_default_context(cafile=ca)
begun = time.monotonic()
for number in range(int(count)):
    with socket.create_connection((parts.hostname, parts.port)) as plain:
        with context.wrap_socket(plain, server_hostname=parts.hostname) as connection:
            connection.sendall(
                f"GET {parts.path}/{number} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
                f"Authorization: Bearer {secret}\r\nCookie: session={secret}\r\n\r\n".encode()
            )
            answer = b""
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith(b"HTTP/1.1 200"), answer
    time.sleep(max(0.0, begun + (number + 1) / float(per_second) - time.monotonic()))
