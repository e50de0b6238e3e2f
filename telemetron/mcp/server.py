"""The MCP server: lists the tools and answers their calls, over any transport."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mcp_types as types
from loguru import logger
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

import telemetron
from telemetron.client import FetchError
from telemetron.mcp.api import Api
from telemetron.mcp.arguments import ArgumentError, checked, unknown
from telemetron.mcp.budget import encode
from telemetron.mcp.guide import INSTRUCTIONS
from telemetron.mcp.tools import TOOLS
from telemetron.text import cut

Context = ServerRequestContext[Any, Any]
TokenOf = Callable[[Context], str | None]
"""Returns the token with which to answer a call."""

BY_NAME = {tool.name: tool for tool in TOOLS}
ANNOTATIONS = types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
FIXED = CacheHint(ttl_ms=3_600_000, scope="public")
"""Tools and instructions are the same for everyone, and change only with the version."""

MAX_ERROR = 1_500
UNEXPECTED = "unexpected response; is the server another version of Telemetron?"


def server(api: Api, token_of: TokenOf) -> Server[Any]:
    """Return the MCP server that asks this API."""
    return Server(
        "telemetron",
        version=telemetron.__version__,
        title="Telemetron",
        instructions=INSTRUCTIONS,
        cache_hints={"tools/list": FIXED, "server/discover": FIXED},
        on_list_tools=_list,
        on_call_tool=partial(_call, api, token_of),
    )


def definitions() -> list[types.Tool]:
    """Return the tools as clients see them, always in the same order."""
    return [
        types.Tool(
            name=tool.name,
            description=tool.description,
            input_schema=dict(tool.schema),
            annotations=ANNOTATIONS,
        )
        for tool in TOOLS
    ]


async def _list(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=definitions())


async def _call(
    api: Api, token_of: TokenOf, context: Context, params: types.CallToolRequestParams
) -> types.CallToolResult:
    tool = BY_NAME.get(params.name)
    if tool is None:
        message = str(unknown("no tool", params.name, BY_NAME))
        raise MCPError(types.INVALID_PARAMS, message)
    try:
        given = checked(tool.schema, params.arguments)
        return _result(await tool.answer(partial(api.get, token_of(context)), given))
    except (FetchError, ArgumentError) as error:
        return _error(str(error), error.nearest)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        logger.debug("{}: {!r}", tool.name, error)
        return _error(UNEXPECTED)


def _result(text: bytes) -> types.CallToolResult:
    """Return a result of one text. A second, structured copy would replace it in some clients."""
    return types.CallToolResult(content=_text(text))


def _error(message: str, nearest: Sequence[str] = ()) -> types.CallToolResult:
    """Return an error that the model can act on."""
    said = {"error": cut(message, MAX_ERROR)} | ({"nearest": nearest} if nearest else {})
    return types.CallToolResult(content=_text(encode(said)), is_error=True)


def _text(text: bytes) -> list[types.ContentBlock]:
    return [types.TextContent(text=text.decode())]
