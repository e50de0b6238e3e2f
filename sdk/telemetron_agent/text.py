"""Makes callers' values safe to send: bounded, printable, of the right type."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import islice

NAME = 256
"""Longest id or name, in characters."""
SENTENCE = 500
"""Longest step, error or description, in characters."""
LIST = 64
"""Most models or queues of one agent."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def text(value: object, limit: int = SENTENCE) -> str | None:
    """Return `value` as a string of at most `limit` characters, or None if it is empty.

    Drop control characters, and lone surrogates, which JSON readers refuse.
    """
    if value is None:
        return None
    try:
        plain = str(value)[:limit]
    except Exception:  # a caller's broken __str__
        return "?"
    return (plain if plain.isprintable() else _UNSAFE.sub("", plain)) or None


def label(value: object) -> str | None:
    """Return an id or a name."""
    return text(value, NAME)


def segment(value: object) -> str | None:
    """Return a name for a URL's path, in which the server accepts only printable characters."""
    return "".join(filter(str.isprintable, label(value) or "")) or None


def labels(values: object) -> list[str]:
    """Return a list of names from any iterable; a single string is a list of one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    try:
        made = [label(value) for value in islice(values, LIST)]
    except Exception:  # a caller's broken iterator
        return []
    return [each for each in made if each]


def integer(value: object, lowest: int = 0, highest: int = 2**63 - 1) -> int | None:
    """Return `value` as an integer, or None if it is no number or out of bounds."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except Exception:  # not a number, or a caller's broken __int__
        return None
    return number if lowest <= number <= highest else None


def rfc3339(seconds: float | None) -> str | None:
    """Return seconds since the epoch as `2026-01-31T12:00:00.000Z`; None stays None."""
    if seconds is None:
        return None
    millis = int(seconds * 1000)
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000)) + f".{millis % 1000:03d}Z"
    )
