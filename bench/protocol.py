"""A bare asyncio protocol: httptools parses, and every request gets the same bytes.

`python -m bench.protocol PORT` answers with the head BENCH_HEADERS and the file BENCH_BODY; without
a file it answers 204, or 304 if there is an ETag. It is the limit of an HTTP server in Python.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httptools
import uvloop


class Protocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer the request."""
        self.transport.write(self.answer)


def _answer() -> bytes:
    body = os.environ.get("BENCH_BODY")
    headers = [("date", "Mon, 30 Nov 2026 12:00:00 GMT"), *json.loads(os.environ["BENCH_HEADERS"])]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    empty = "304 Not Modified" if "etag: " in head else "204 No Content"
    status = "200 OK" if body else empty
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + (Path(body).read_bytes() if body else b"")


async def main(port: int) -> None:
    """Serve until the process ends."""
    answer = _answer()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(answer), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
