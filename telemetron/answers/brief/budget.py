"""The budget: fill an answer row by row, never above a number of bytes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

BYTES_PER_TOKEN = 1.8
"""A lower bound for the tokenizers of today, so that the count of tokens is an upper bound."""
LEAST_TOKENS, MOST_TOKENS, DEFAULT_TOKENS = 200, 10_000, 2_000
LEAST_BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN = 1.5, 6.0
# A notice that would take more of the answer than this share is one sum of all tables.
NOTICE_SHARE = 0.3

Cells = Sequence[Any]
Shown = Mapping[str, tuple[int, int]]
"""By table: how many of its rows are shown, and how many there are."""


class Table(NamedTuple):
    """The head of a table. Without columns, each row is a name and its value."""

    name: str
    columns: tuple[str, ...] = ()


class Row(NamedTuple):
    """A row of a table in its levels, the fullest first; the first level that fits is shown."""

    table: Table
    levels: Iterable[Cells]
    share: float = 1.0
    """The part of the whole answer that it may take at most."""


class Form(Protocol):
    """How an answer is written. A part contains whatever separates it from others."""

    def field(self, name: str, value: Any) -> bytes:
        """Return one field."""

    def head(self, table: Table) -> bytes:
        """Return a table without its rows."""

    def row(self, table: Table, cells: Cells) -> bytes:
        """Return one row."""

    def whole(self, parts: Iterable["Part"]) -> bytes:
        """Return the answer: no more bytes than all parts together."""


class Part(NamedTuple):
    """A field, or a table with its rows, as a form has written it."""

    head: bytes
    rows: Sequence[bytes] = ()
    is_table: bool = False


class Sheet:
    """An answer that is being filled; it fits `most` bytes at any time, if the notice does.

    `total` has the number of rows of each table. The notice of the cut rows and `next`, the
    request that shows them, are reserved first, so each new row must fit beside them.
    """

    def __init__(self, form: Form, most: int, total: Mapping[str, int], next: str) -> None:
        self.form = form
        self._most = most
        self._total = {name: count for name, count in total.items() if count}
        self._fields: dict[str, bytes] = {}
        self._tables: dict[Table, list[bytes]] = {}
        self._closed: set[str] = set()
        self._next = next
        self._sums = False
        self._size = len(form.whole([]))
        self._sums = self._notice_size({}) > most * NOTICE_SHARE

    def add_field(self, name: str, value: Any) -> bool:
        """Add a field if it fits; return whether it does."""
        written = self.form.field(name, value)
        if not self._fits(len(written), self._counts()):
            return False
        self._fields[name] = written
        self._size += len(written)
        return True

    def add(self, row: Row) -> bool:
        """Add a row if one of its levels fits; else no later row of its table is shown either."""
        if row.table.name in self._closed:
            return False
        rows = self._tables.get(row.table)
        size = 0 if rows else len(self.form.head(row.table))
        counts = self._counts(row.table.name)
        for cells in row.levels:
            written = self.form.row(row.table, cells)
            if len(written) <= row.share * self._most and self._fits(size + len(written), counts):
                self._tables.setdefault(row.table, []).append(written)
                self._size += size + len(written)
                return True
        if row.share == 1.0:
            self._closed.add(row.table.name)
        return False

    def shown(self, name: str) -> int:
        """Return how many rows of a table are shown."""
        return sum(len(rows) for table, rows in self._tables.items() if table.name == name)

    def finish(self, fields: Sequence[str], tables: Sequence[str]) -> bytes:
        """Return the answer, with its fields and tables in these orders, and the notice."""
        parts = [Part(self._fields[name]) for name in fields if name in self._fields]
        ordered = sorted(self._tables, key=lambda table: tables.index(table.name))
        parts += [Part(self.form.head(one), self._tables[one], True) for one in ordered]
        return self.form.whole([*parts, *map(Part, self._notice(self._counts()))])

    def _counts(self, more: str | None = None) -> Shown:
        """Return the shown and all rows of each table, with one row more of a table."""
        return {
            name: (self.shown(name) + (name == more), total) for name, total in self._total.items()
        }

    def _fits(self, size: int, counts: Shown) -> bool:
        return self._size + size + self._notice_size(counts) <= self._most

    def _notice_size(self, counts: Shown) -> int:
        return sum(map(len, self._notice(counts or self._counts())))

    def _notice(self, counts: Shown) -> list[bytes]:
        cut: dict[str, Sequence[int]] = {
            name: (shown, total) for name, (shown, total) in counts.items() if shown < total
        }
        if not cut:
            return []
        if self._sums:
            cut = {"rows": [sum(one) for one in zip(*counts.values(), strict=True)]}
        return [self.form.field("cut", cut), self.form.field("next", self._next)]


def bytes_of(tokens: int, bytes_per_token: float) -> int:
    """Return the bytes that count as so many tokens: `ceil(bytes / bytes_per_token)`."""
    return int(tokens * bytes_per_token + 1e-9)
