"""One record of a log, whatever the format that a broker keeps it in."""

from typing import NamedTuple

MAX_VALUE_BYTES = 1 << 20
"""1 MiB is also the largest batch that a broker accepts by default."""


class LogRecord(NamedTuple):
    """One record; `timestamp` is in milliseconds since 1970, negative: none.

    A value that is longer than MAX_VALUE_BYTES is cut one byte after that.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
