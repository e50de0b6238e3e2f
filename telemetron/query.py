"""Query parameters: parse them, and refuse unknown, repeated and wrong ones."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from telemetron.http import HttpProblem

MAX_WAIT_SECONDS = 60.0
MAX_SHOWN = 100
"""Characters of a wrong value that an error message repeats."""
LISTS = ("sections", "kinds")
"""Parameters whose value is a list: names joined by commas, or the parameter several times."""
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


def parameters(query: bytes, known: Sequence[str]) -> dict[str, str]:
    """Return the parameters by name. Raises a 400 for an unknown or a repeated one."""
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
            raise HttpProblem(400, f"query parameter {name!r} is given twice; send it once")
    return found


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise HttpProblem(400, "more than 100 query parameters") from None


def shown(value: str) -> str:
    """Quote a value for an error message; cut it if it is long."""
    return repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…")


def duration(name: str, value: str, most: float = MAX_WAIT_SECONDS) -> float:
    """Return the seconds of `30s`, `500ms`, `1m` or `30`. Raises a 400 above `most`."""
    match = _DURATION.fullmatch(value)
    seconds = float(match[1]) * _UNITS[match[2]] if match else None
    if seconds is None or seconds > most:
        raise HttpProblem(
            400, f"{name}: expected a duration of at most {most:.0f}s, such as 30s or 500ms"
        )
    return seconds


def flag(name: str, value: str) -> bool:
    """Return the value of a parameter that is `true` or `false`. Raises a 400 for another."""
    if value not in ("true", "false"):
        raise HttpProblem(400, f"{name}: expected true or false")
    return value == "true"
