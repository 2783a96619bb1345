"""The same as client.py with asyncio: its TLS goes through buffers in memory, the loop moves the bytes."""

import asyncio
import os
import ssl
import sys
import urllib.parse

url, ca, count, go, log = sys.argv[1:]
parts = urllib.parse.urlsplit(url)


async def main():
    context = ssl.create_default_context(cafile=ca)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)

    async def ask(path):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        return int(head.split()[1])

    if go != "-":
        await ask("/before")
        print("connected", flush=True)
        while not os.path.exists(go):
            await asyncio.sleep(0.02)
    with open(log, "w") as out:
        for number in range(int(count)):
            status = await ask(f"{parts.path}/{number}")
            out.write(f"GET {parts.path}/{number} {status}\n")
            await asyncio.sleep(0.01)
        # Its secret is looked for while it is open.
        await asyncio.sleep(1 if go != "-" else 0)
        out.write("done\n")


asyncio.run(main())
