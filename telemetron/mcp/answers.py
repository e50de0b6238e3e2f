"""The tools `brief`, `entity` and `task`: answers that the HTTP API makes within a budget."""

from collections.abc import Mapping
from typing import Any

from telemetron.mcp.api import Ask, segment
from telemetron.mcp.budget import compact, shrunk, timestamp

PLACE_PARTS = 3


async def brief(ask: Ask, given: Mapping[str, Any]) -> bytes:
    """Return what matters now, or about one thing. Raises FetchError and ArgumentError."""
    query = {"max_tokens": str(given["max_tokens"])}
    if "about" in given:
        query["about"] = given["about"]
    response = await ask("/system/brief", query)
    return shrunk(response.document, given["max_tokens"])


async def entity(ask: Ask, given: Mapping[str, Any]) -> bytes:
    """Return one entity with all that is joined to it. Raises FetchError and ArgumentError."""
    return await brief(ask, {"about": given["key"], "max_tokens": given["max_tokens"]})


async def task(ask: Ask, given: Mapping[str, Any]) -> bytes:
    """Return where a task is. Raises FetchError and ArgumentError."""
    response = await ask(f"/system/tasks/{_path(given)}", {})
    at = timestamp(response.now)
    return shrunk({"now": at, **compact(response.document, at[:10])}, given["max_tokens"])


def _path(given: Mapping[str, Any]) -> str:
    """Return the segments of a task: its id, or its queue, partition and offset."""
    id = given["id"]
    parts = id.rsplit("/", PLACE_PARTS - 1)
    if len(parts) == PLACE_PARTS and all(part.isdecimal() for part in parts[1:]):
        return "/".join(map(segment, parts))
    return segment(id)
