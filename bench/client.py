"""A small HTTP/1.1 client for paced load; wrk cannot pace, it only waits for answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.process import Server

LIMIT = 64 * 1024


class Connection:
    """One persistent connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str, headers: str = "") -> bytes:
        """Return the body; RuntimeError unless the status is 200. Each header ends with CR LF."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n".encode())
        return await self._answer(b"200")

    async def post(self, path: str, body: bytes) -> None:
        """Raise RuntimeError unless the status is 204."""
        self._writer.write(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
        )
        await self._answer(b"204")

    async def _answer(self, status: bytes) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        if head[9:12] != status:
            raise RuntimeError(head.decode())
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await self._reader.readexactly(int(length or b"0"))


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    """Open a connection to the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=LIMIT)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
