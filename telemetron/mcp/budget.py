"""Answers within a budget of tokens: compact JSON, cut by whole items and never in the middle."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from typing import Any

import msgspec

from telemetron.answers.brief.budget import BYTES_PER_TOKEN
from telemetron.mcp.arguments import ArgumentError
from telemetron.text import cut

MIN_ITEM = 8
"""No item takes fewer bytes, so no more than a budget's bytes by this can fit."""

LENGTHS = ((64, 500), (16, 300), (8, 200), (4, 120), (2, 80), (1, 60), (0, 40))
"""The items of a list and the characters of a text to keep, from generous to strict."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z")

encode = msgspec.json.encode


def tokens(text: bytes) -> int:
    """Return an upper bound of the number of tokens."""
    return ceil(len(text) / BYTES_PER_TOKEN)


def fits(text: bytes, max_tokens: int) -> bool:
    """Whether the text is within the budget."""
    return tokens(text) <= max_tokens


def compact(value: Any, date: str) -> Any:
    """Return a value without nulls, and with short times: `HH:MM:SS` on the date, in seconds."""
    if isinstance(value, dict):
        return {name: compact(one, date) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [compact(one, date) for one in value]
    if isinstance(value, str) and (match := _TIME.fullmatch(value)):
        return match[2] if match[1] == date else f"{match[1]}T{match[2]}Z"
    return value


def timestamp(now: datetime) -> str:
    """Return the time of an answer, in seconds."""
    return f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def most(total: int, build: Callable[[int], Any], max_tokens: int) -> bytes:
    """Return the answer with as many of its items as the budget allows, the first ones.

    `build(n)` makes the answer with n of `total` items. Raises ArgumentError if not even the
    answer without items fits.
    """
    if fits(whole := encode(build(total)), max_tokens):
        return whole
    low, high = 0, min(total - 1, int(max_tokens * BYTES_PER_TOKEN) // MIN_ITEM)
    best = encode(build(0)) if total else whole
    if not fits(best, max_tokens):
        raise _too_small(max_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(text := encode(build(middle)), max_tokens):
            low, best = middle, text
        else:
            high = middle - 1
    return best


def shrunk(document: dict[str, Any], max_tokens: int) -> bytes:
    """Return the document with shorter lists and texts if it is above the budget.

    The member `cut` names each shortened list, as `pods[].problems`, with the numbers of items
    shown and of all. Raises ArgumentError if the shortest form does not fit either.
    """
    text = encode(document)
    for items, characters in LENGTHS:
        if fits(text, max_tokens):
            return text
        shown: dict[str, list[int]] = {}
        shorter = _shorter(document, "", items, characters, shown)
        text = encode({**shorter, "cut": shown} if shown else shorter)
    if fits(text, max_tokens):
        return text
    raise _too_small(max_tokens)


def _shorter(value: Any, path: str, items: int, characters: int, shown: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return cut(value, characters)
    if isinstance(value, dict):
        start = f"{path}." if path else ""
        parts = {
            name: _shorter(one, f"{start}{name}", items, characters, shown)
            for name, one in value.items()
        }
        # `cut` names a list without items.
        return {name: one for name, one in parts.items() if one != [] or not value[name]}
    if isinstance(value, list):
        if len(value) > items:
            counts = shown.setdefault(path, [0, 0])
            shown[path] = [counts[0] + items, counts[1] + len(value)]
        return [_shorter(one, f"{path}[]", items, characters, shown) for one in value[:items]]
    return value


def _too_small(max_tokens: int) -> ArgumentError:
    return ArgumentError(
        f"max_tokens: the answer does not fit in {max_tokens}; ask for more, or for less of it"
    )
