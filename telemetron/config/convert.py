"""Converts the plain values of a configuration to typed ones, and reports every problem.

msgspec by itself stops at the first problem and knows no lines; a user wants to fix all at once.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, ValidationError, structs

from telemetron.secret import Secret

MAX_SECRET_BYTES = 64 * 1024

Path = tuple[str | int, ...]
"""Keys and indices from the top: `("agents", 0, "name")`."""

INVALID: Any = object()
"""Replaces a value whose problem is already reported."""

# msgspec uses the names of JSON's types; the file is YAML.
_WORDS = {"`": "", " | ": " or ", "object": "mapping", "array": "list", "Expected": "expected"}
# Text that YAML reads as another type: 12, no, off.
_NEEDS_QUOTES = re.compile(r"expected (str|secret)( or null)?, got (bool|int|float)")


class Location(NamedTuple):
    """The source of a value: a file and its line, or the name of a variable or an option."""

    file: str
    line: int | None = None
    name: str | None = None


class ConfigProblem(NamedTuple):
    """One problem of the configuration. `str()` is one line and never contains a value."""

    path: Path
    location: Location
    message: str

    @property
    def key(self) -> str:
        """The name of a variable or an option, else the path: `agents[0].name`."""
        return self.location.name or dotted(self.path)

    def __str__(self) -> str:
        file, line, _ = self.location
        where = file if line is None else f"{file}:{line}"
        return ": ".join(filter(None, (where, self.key, self.message)))


class ConfigError(Exception):
    """The configuration is not valid; it has one or more problems, in the order of the file."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.location.line or 0)
        super().__init__("\n".join(map(str, self.problems)))


class Origin:
    """The locations of the values of one configuration, by path."""

    def __init__(self, file: str) -> None:
        self.locations: dict[Path, Location] = {(): Location(file)}
        self.textual: set[Path] = set()
        """Values of environment variables: always text, whatever type the key has."""

    def location(self, path: Path) -> Location:
        """Return the location of a value, else that of the closest table around it."""
        while path not in self.locations:
            path = path[:-1]
        return self.locations[path]

    def problem(self, path: Path, message: str) -> ConfigProblem:
        return ConfigProblem(path, self.location(path), message)


class ConfigKey(NamedTuple):
    """One key of a configuration, as it is shown to users."""

    name: str
    type: str
    required: bool
    default: Any
    description: str


class Converter:
    """Converts values of one origin, and appends their problems to `problems`."""

    def __init__(self, origin: Origin, problems: list[ConfigProblem]) -> None:
        self.origin = origin
        self.problems = problems

    def report(self, path: Path, message: str) -> Any:
        self.problems.append(self.origin.problem(path, message))
        return INVALID

    def convert(self, kind: Any, value: Any, path: Path) -> Any:
        """Return the value as `kind`, a type that msgspec supports; INVALID if it does not fit."""
        if path in self.origin.textual and any(map(_is_list, members(kind))):
            value = self._split(value, path)
        if Secret in members(kind) and isinstance(value, str):
            value = self._secret(value, path)
        elif isinstance(value, dict):
            value = self._mapping(kind, value, path)
        elif isinstance(value, list):
            value = self._list(kind, value, path)
        return INVALID if value is INVALID else self._checked(kind, value, path)

    def _mapping(self, kind: Any, value: dict[str, Any], path: Path) -> Any:
        tables = [member for member in members(kind) if _is_struct(member)]
        if len(tables) == 1:
            return self._table(tables[0], value, path)
        items = [get_args(member)[1] for member in members(kind) if get_origin(member) is dict]
        if len(items) != 1:
            return value
        return _whole({k: self.convert(items[0], v, (*path, k)) for k, v in value.items()})

    def _split(self, text: str, path: Path) -> list[str]:
        """Return the items of a list in a variable, which are separated by commas."""
        items = [item.strip() for item in text.split(",") if item.strip()]
        self.origin.textual |= {(*path, index) for index in range(len(items))}
        return items

    def _list(self, kind: Any, value: list[Any], path: Path) -> Any:
        items = [get_args(member)[0] for member in members(kind) if _is_list(member)]
        if len(items) != 1:
            return value
        made = {i: self.convert(items[0], v, (*path, i)) for i, v in enumerate(value)}
        return INVALID if _whole(made) is INVALID else list(made.values())

    def _table(self, table: type[Struct], value: dict[str, Any], path: Path) -> Any:
        fields = {field.encode_name: field for field in structs.fields(table)}
        files = _secret_files(fields)
        made = {}
        for name, item in value.items():
            if name in fields:
                made[name] = self.convert(fields[name].type, item, (*path, name))
            elif name in files and files[name] not in value:
                made[files[name]] = self._secret_file(item, (*path, name))
            elif name in files:
                made[name] = self.report(
                    (*path, name), f'"{files[name]}" is given too; keep one of them'
                )
            else:
                made[name] = self.report((*path, name), unknown("key", name, {*fields, *files}))
        for name, field in fields.items():
            if field.required and name not in made:
                made[name] = self.report(path, f'"{name}" is missing: {_description(field.type)}')
        return INVALID if _whole(made) is INVALID else self._checked(table, made, path)

    def _secret(self, text: str, path: Path) -> Any:
        if not text or not text.isprintable():
            return self.report(path, "expected one line of text that is not empty")
        return Secret(text)

    def _secret_file(self, file: Any, path: Path) -> Any:
        if not isinstance(file, str):
            return INVALID if file is INVALID else self._checked(str, file, path)
        try:
            with open(file, "rb") as opened:
                text = opened.read(MAX_SECRET_BYTES).decode().strip()
        except OSError as error:
            return self.report(path, f"cannot read {file}: {error.strerror}")
        except ValueError:  # not UTF-8, or a file name with a null byte
            return self.report(path, f"cannot read {file!r}: not text in UTF-8")
        if not text or not text.isprintable():
            return self.report(path, f"expected one line of text in {file}")
        return Secret(text)

    def _checked(self, kind: Any, value: Any, path: Path) -> Any:
        try:
            made = _typed(kind, value, textual=path in self.origin.textual)
        except ValidationError as error:
            return self.report(path, _expectation(kind, str(error)))
        if isinstance(made, float) and not math.isfinite(made):
            return self.report(path, "expected a finite number")
        return made


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name of a key or a collector."""
    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"unknown {what}{hint} (known: {', '.join(sorted(known))})"


def dotted(path: Path) -> str:
    """Return `agents[0].name` for `("agents", 0, "name")`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def members(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, else the type itself, without annotations."""
    kind = _bare(kind)
    if get_origin(kind) in (Union, UnionType):
        return tuple(_bare(member) for member in get_args(kind))
    return (kind,)


def keys(table: type[Struct], prefix: str = "") -> Iterator[ConfigKey]:
    """Yield every key of a table and of the tables in it, as users write them."""
    fields = {field.encode_name: field for field in structs.fields(table)}
    for name, field in fields.items():
        inner = list(_tables(field.type, prefix + name))
        if not inner or any(get_origin(member) is Literal for member in members(field.type)):
            yield _key(prefix + name, field)
        for nested, place in inner:
            yield from keys(nested, place)
    for name, secret in _secret_files(fields).items():
        yield ConfigKey(
            prefix + name, "str", False, None, f"File that contains `{prefix}{secret}`."
        )


def _tables(kind: Any, name: str) -> Iterator[tuple[type[Struct], str]]:
    """Yield the tables that a key can have, with the prefix of their keys."""
    for member in members(kind):
        if _is_struct(member) and member.__struct_config__.forbid_unknown_fields:
            yield member, name + "."
        elif _is_list(member):
            yield from _tables(get_args(member)[0], name + "[]")
        elif get_origin(member) is dict:
            yield from _tables(get_args(member)[1], name + ".*")


def _key(name: str, field: structs.FieldInfo) -> ConfigKey:
    default = None if field.default is NODEFAULT else field.default
    if field.default_factory is not NODEFAULT:
        default = field.default_factory()
    shown = msgspec.to_builtins(default, enc_hook=str)
    return ConfigKey(name, _type_name(field.type), field.required, shown, _description(field.type))


def _type_name(kind: Any) -> str:
    names = [_member_name(member) for member in members(kind) if member is not NoneType]
    return " or ".join(names)


def _member_name(member: Any) -> str:
    if get_origin(member) is Literal:
        return " or ".join(f'"{value}"' for value in get_args(member))
    if _is_list(member):
        return f"list of {_type_name(get_args(member)[0])}"
    if _is_struct(member) or get_origin(member) is dict:
        return "mapping"
    return str(getattr(member, "__name__", member)).lower()


def _description(kind: Any) -> str:
    metas = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((meta.description for meta in metas if meta.description), "")


def _typed(kind: Any, value: Any, textual: bool) -> Any:
    try:
        return msgspec.convert(value, kind, dec_hook=_foreign)
    except ValidationError:
        if not textual:
            raise
        return msgspec.convert(value, kind, strict=False, dec_hook=_foreign)


def _foreign(kind: type, value: object) -> object:
    """Accept values of types that msgspec does not know: secrets are already converted."""
    if isinstance(value, kind):
        return value
    raise ValueError(f"Expected `{kind.__name__.lower()}`, got `{type(value).__name__}`")


def _expectation(kind: Any, error: str) -> str:
    """Return msgspec's message in terms of YAML and without the value."""
    text, _, inside = error.partition(" - at `$")
    if text.startswith("Invalid enum value"):
        text = f"expected {_type_name(kind)}"
    if " matching regex " in text and (description := _description(kind)):
        text = f"expected: {description}"
    for word, ours in _WORDS.items():
        text = text.replace(word, ours)
    if _NEEDS_QUOTES.fullmatch(text):
        text += " (quote it)"
    return f"{inside.rstrip('`').lstrip('.')}: {text}" if inside else text


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _is_list(kind: Any) -> bool:
    """Return whether a type is a list, or a tuple of any length."""
    origin, args = get_origin(kind), get_args(kind)
    return origin is list or (origin is tuple and len(args) == 2 and args[1] is Ellipsis)


def _secret_files(fields: Mapping[str, structs.FieldInfo]) -> dict[str, str]:
    """Return `X_file` for each secret `X`, unless the table has its own key of that name."""
    secrets = [name for name, field in fields.items() if Secret in members(field.type)]
    return {f"{name}_file": name for name in secrets if f"{name}_file" not in fields}


def _whole(made: dict[Any, Any]) -> Any:
    return INVALID if any(value is INVALID for value in made.values()) else made
