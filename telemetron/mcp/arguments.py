"""The arguments of a call, checked against the input schema of its tool."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from telemetron.answers.brief.budget import DEFAULT_TOKENS, LEAST_TOKENS, MOST_TOKENS
from telemetron.text import cut, printable

MAX_TEXT = 2_000
MAX_SHOWN = 100

Schema = Mapping[str, Any]
"""The properties of an input schema, by name."""


class ArgumentError(Exception):
    """An argument is wrong. The message names the expected value; `nearest` has valid ones."""

    def __init__(self, message: str, nearest: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest


def checked(schema: Schema, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments that were given, with `max_tokens`. Raises ArgumentError.

    Null and empty values count as not given: models send them for optional arguments.
    """
    known = schema["properties"]
    found: dict[str, Any] = {"max_tokens": DEFAULT_TOKENS}
    for name, value in (given or {}).items():
        if name not in known:
            raise unknown("no argument", name, known)
        if value is not None and value not in ("", []):
            found[name] = _value(name, known[name], value)
    for name in schema.get("required", ()):
        if name not in found:
            raise ArgumentError(f"{name} is required: {known[name]['description']}")
    return found


def _value(name: str, schema: Schema, value: Any) -> Any:
    kind = schema["type"]
    if kind == "integer":
        return _tokens(name, value)
    if kind == "array":
        return [_text(name, schema["items"], one) for one in _list(name, value)]
    return _text(name, schema, value)


def _tokens(name: str, value: Any) -> int:
    """Return a number of tokens, the only kind of number that the tools take."""
    is_whole = not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    )
    if not is_whole or not LEAST_TOKENS <= value <= MOST_TOKENS:
        raise ArgumentError(f"{name}: expected an integer from {LEAST_TOKENS} to {MOST_TOKENS}")
    return int(value)


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ArgumentError(f"{name}: expected a list of texts, got {shown(value)}")
    return list(dict.fromkeys(map(str, value)))


def _text(name: str, schema: Schema, value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{name}: expected a text, got {shown(value)}")
    if len(value) > MAX_TEXT:
        raise ArgumentError(f"{name}: longer than {MAX_TEXT} characters")
    if "enum" in schema and value not in schema["enum"]:
        raise unknown(f"{name}: no", value, schema["enum"])
    return value


def unknown(what: str, value: str, known: Iterable[str]) -> ArgumentError:
    """Return the error of a value that is none of the known ones."""
    names = list(known)
    near = tuple(get_close_matches(value, names, 1, 0.4))
    hint = f"; did you mean {near[0]}?" if near else ";"
    return ArgumentError(f"{what} {shown(value)}{hint} known: {', '.join(names)}", near)


def shown(value: Any) -> str:
    """Return a wrong value for an error message, on one line and cut if it is long."""
    return printable(cut(repr(value), MAX_SHOWN))
