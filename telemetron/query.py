"""Query parameters: what is not known is refused with the names that are."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from telemetron.http import HttpProblem

MAX_WAIT_SECONDS = 60.0
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


def parameters(query: bytes, known: Sequence[str]) -> dict[str, str]:
    """The parameters by name; 400 for one that is not known or comes twice."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            names = ", ".join(known) or "none"
            raise HttpProblem(400, f"unknown query parameter {name!r}; known: {names}")
        if name in found:
            raise HttpProblem(400, f"query parameter {name!r} comes twice")
        found[name] = value
    return found


def duration(name: str, value: str, most: float = MAX_WAIT_SECONDS) -> float:
    """Seconds, from `30s`, `500ms`, `1m` or `30`; at most `most`."""
    match = _DURATION.fullmatch(value)
    seconds = float(match[1]) * _UNITS[match[2]] if match else None
    if seconds is None or seconds > most:
        raise HttpProblem(400, f"{name} takes a duration of at most {most:.0f}s, as 30s or 500ms")
    return seconds


def flag(name: str, value: str) -> bool:
    """`true` or `false`."""
    if value not in ("true", "false"):
        raise HttpProblem(400, f"{name} takes true or false")
    return value == "true"
