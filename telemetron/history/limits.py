"""Limits of the history: how much it keeps, and how long it waits."""

from msgspec import Struct


class HistoryLimits(Struct, frozen=True, kw_only=True):
    """Limits of one history; only the first three are configured.

    The weight of a step is one, plus one for each of its entries.
    """

    memory_bytes: int = 64 << 20
    file_bytes: int = 1 << 30
    max_age: int = 24 * 3_600_000
    """Milliseconds."""
    recent_weight: int = 5_000
    """Newest steps, held uncompressed."""
    recent_bytes: int = 8 << 20
    open_weight: int = 500
    """Steps that are compressed together into one batch of the memory's archive."""
    unwritten_weight: int = 50_000
    """Steps that wait for the file; any more are dropped, and the file gets a hole."""
    unwritten_bytes: int = 32 << 20
    keyframe_bytes: int = 32 << 10
    """A smaller keyframe counts as this large when the next one is due by size."""
    keyframe_entities: int = 200
    """Entities that are compressed together."""
    busy_seconds: float = 2.0
    """How long SQLite waits for a file that another process has locked."""
    retry_seconds: float = 1.0
    """First delay before a file that failed is tried again; it doubles up to 30 s."""
    answer_bytes: int = 1 << 20
    answer_entries: int = 5_000
    queries: int = 256
    """Queries that wait for the thread or their answer."""
    backlog: int = 1_000
    """Publications that wait for the thread; any more are merged into one."""
    backlog_bytes: int = 64 << 20
    drain_seconds: float = 0.1
    """Time between two looks at whether the thread has room for the merged publication."""
    failed_seconds: float = 30.0
    """How long the problem of a failed recording is shown."""


DEFAULTS = HistoryLimits()
