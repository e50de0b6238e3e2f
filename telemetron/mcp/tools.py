"""The five tools: their definitions, written by hand because every client reads all of them.

Input schemas have only `type`, `properties`, `required`, `items`, `enum` and `description`: some
clients drop a whole server for any other keyword.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from telemetron.answers.brief.budget import DEFAULT_TOKENS, LEAST_TOKENS, MOST_TOKENS
from telemetron.mcp import answers
from telemetron.mcp.api import Ask
from telemetron.mcp.changes import KINDS, changes
from telemetron.mcp.state import SECTIONS, state

Schema = Mapping[str, Any]


class Tool(NamedTuple):
    """A tool: its definition, and the function that answers checked arguments."""

    name: str
    description: str
    schema: Schema
    answer: Callable[[Ask, Mapping[str, Any]], Awaitable[bytes]]


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _names(names: tuple[str, ...], description: str) -> Schema:
    items = {"type": "string", "enum": list(names)}
    return {"type": "array", "items": items, "description": description}


_TOKENS: Schema = {
    "type": "integer",
    "description": f"{LEAST_TOKENS} to {MOST_TOKENS}; default {DEFAULT_TOKENS}",
}


def _object(*required: str, **properties: Schema) -> Schema:
    schema = {"type": "object", "properties": {**properties, "max_tokens": _TOKENS}}
    return {**schema, "required": list(required)} if required else schema


TOOLS = (
    Tool(
        "brief",
        "Ask this first: present trouble, root causes first, with evidence.",
        _object(about=_text("center on this key, agent, queue, pod, model or task id")),
        answers.brief,
    ),
    Tool(
        "task",
        "Where one task is: waiting, active, ended, lost or unknown; timeline, blockers.",
        _object("id", id=_text("task id, or QUEUE/PARTITION/OFFSET")),
        answers.task,
    ),
    Tool(
        "entity",
        "One entity: its fields, findings, last changes and joined entities.",
        _object("key", key=_text("key, name or SECTION/KEY; also a pod or an instance")),
        answers.entity,
    ),
    Tool(
        "state",
        "Entities of sections, the worst first: whole if they fit, else as tables.",
        _object(
            sections=_names(SECTIONS, "default: all"),
            match=_text("only entities with this text in a value, such as silent"),
            at=_text("past: place, time or age such as 5m"),
        ),
        state,
    ),
    Tool(
        "changes",
        "Net changes between two points in time, newest first.",
        _object(
            since=_text("place, time or age; default 5m"),
            until=_text("default: now"),
            key=_text("only this entity"),
            sections=_names(SECTIONS, "default: all"),
            kinds=_names(KINDS, "default: the first three"),
        ),
        changes,
    ),
)
