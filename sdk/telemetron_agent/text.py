"""What callers hand over, made safe to send: bounded, printable, of the right type."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import islice

NAME = 256
"""Longest id or name, in characters."""
SENTENCE = 500
"""Longest step, error or description, in characters."""
LIST = 100
"""Most models or queues of one agent."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_INT64 = 2**63


def text(value: object, limit: int) -> str | None:
    """`value` as a string of at most `limit` characters; None stays None.

    Control characters and lone surrogates, which JSON readers refuse, are left out.
    """
    if value is None:
        return None
    try:
        plain = str(value)[:limit]
    except Exception:  # a caller's broken __str__
        return "?"
    return plain if plain.isprintable() else _UNSAFE.sub("", plain)


def texts(values: object) -> list[str]:
    """A list of names from any iterable; a single string is a list of one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    try:
        names = [text(value, NAME) for value in islice(values, LIST)]
    except Exception:  # a caller's broken iterator
        return []
    return [name for name in names if name]


def integer(value: object) -> int | None:
    """`value` as a 64-bit integer, or None where it is none."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except Exception:  # no number, or a caller's broken __int__
        return None
    return number if -_INT64 <= number < _INT64 else None


def rfc3339(seconds: float | None) -> str | None:
    """Seconds since the epoch as `2026-01-31T12:00:00.000Z`; None stays None."""
    if seconds is None:
        return None
    millis = int(seconds * 1000)
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000)) + f".{millis % 1000:03d}Z"
    )
