"""The forms of an answer: compact JSON for programs and models, Markdown for people and chats."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from telemetron.answers.brief.budget import Cells, Part, Table

_encode = msgspec.json.encode


class Json:
    """Compact JSON; a row ends with its last value that is not null."""

    media = "application/json"

    def field(self, name: str, value: Any) -> bytes:
        """Return `"name":value,`."""
        return b"%s:%s," % (_encode(name), _encode(value))

    def head(self, table: Table) -> bytes:
        """Return the head with its brackets."""
        if not table.columns:
            return b"%s:{}," % _encode(table.name)
        return b'%s:{"columns":%s,"rows":[]},' % (_encode(table.name), _encode(table.columns))

    def row(self, table: Table, cells: Cells) -> bytes:
        """Return `[…],`, or `"name":value,` without columns."""
        if table.columns:
            return _encode(cells) + b","
        return self.field(*cells)

    def whole(self, parts: Iterable[Part]) -> bytes:
        """Return the object."""
        return b"{%s}" % b",".join(map(_json_part, parts))


def _json_part(part: Part) -> bytes:
    head = part.head[:-1]
    if not part.is_table:
        return head
    rows = b",".join([row[:-1] for row in part.rows])
    if head.endswith(b"]}"):
        return head[:-2] + rows + b"]}"
    return head[:-1] + rows + b"}"


class Markdown:
    """Markdown: the fields as a list, each table below its name.

    Tables have no outer bars: with them, a byte of a table would be more tokens.
    """

    media = "text/markdown"

    def field(self, name: str, value: Any) -> bytes:
        """Return an item of a list, which also ends a table before it."""
        return f"- {name}: {_text(value)}\n".encode()

    def head(self, table: Table) -> bytes:
        """Return the heading and the names of the columns."""
        if not table.columns:
            return f"\n## {table.name}\n\n".encode()
        columns = " | ".join(table.columns)
        line = "|".join("---" for _ in table.columns)
        return f"\n## {table.name}\n\n{columns}\n{line}\n".encode()

    def row(self, table: Table, cells: Cells) -> bytes:
        """Return a line of the table; without columns, an item with JSON."""
        if not table.columns:
            name, value = cells
            return f"- {_text(name)}: `{_encode(value).decode()}`\n".encode()
        return (" | ".join(map(_cell, cells)) + "\n").encode()

    def whole(self, parts: Iterable[Part]) -> bytes:
        """Return all parts, one after the other."""
        return b"".join(b"".join([part.head, *part.rows]) for part in parts)


def _cell(value: Any) -> str:
    """Return a value within a table; a cell cannot contain a bare `|`."""
    return _text(value).replace("|", "\\|")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        numbers = [one for one in value if isinstance(one, int)]
        if len(value) == len(numbers) == 2:
            return "{} of {}".format(*numbers)
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return _one_line(str(value))


def _one_line(text: str) -> str:
    return re.sub(r"\s", " ", text)
