"""`telemetron mcp` over standard input and output, as a child of an MCP client."""

import asyncio
import logging
import signal

from loguru import logger
from mcp.server.stdio import stdio_server

from telemetron.mcp.api import Api
from telemetron.mcp.server import server


def run(api: Api, token: str | None) -> None:
    """Serve until the end of standard input. SIGINT and SIGTERM end the process at once.

    Nothing is logged: a client that does not read standard error would block this process.
    """
    logger.remove()
    logging.disable()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a thread that reads would delay the exit
    asyncio.run(_serve(api, token))


async def _serve(api: Api, token: str | None) -> None:
    serving = server(api, lambda _: token)
    async with stdio_server() as (read, write):
        await serving.run(read, write, serving.create_initialization_options())
    await api.close()
