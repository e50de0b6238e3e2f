"""Query parameters: an unknown one is refused with the names of the known ones."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from telemetron.http import HttpProblem

MAX_WAIT_SECONDS = 60.0
# So much of a wrong value is repeated in the answer.
SHOWN = 100
LISTS = ("sections",)
"""They take names joined by commas, or come several times."""
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


def parameters(query: bytes, known: Sequence[str]) -> dict[str, str]:
    """Return the parameters by name; 400 if one is unknown, or comes twice and is no list."""
    found: dict[str, str] = {}
    for name, value in _pairs(query):
        if name not in known:
            names = ", ".join(known) or "none"
            raise HttpProblem(400, f"unknown query parameter {shown(name)}; known: {names}")
        if name not in found:
            found[name] = value
        elif name in LISTS:
            found[name] += f",{value}"
        else:
            raise HttpProblem(400, f"query parameter {name!r} comes twice; send it once")
    return found


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise HttpProblem(400, "more than 100 query parameters") from None


def shown(value: str) -> str:
    """Quote a value for an error, cut if it is long."""
    return repr(value if len(value) <= SHOWN else value[:SHOWN] + "…")


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
