"""Searches for one task in the sources whose lists of tasks are cut.

A collector that offers a search answers from what it observes; it may read more, but changes
nothing. See `Output.offer`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from msgspec import Struct

from telemetron.document import PendingTask

MAX_LOOK = 50_000
"""Records that one search may read at most."""

T = TypeVar("T")


class QueueRecord(NamedTuple):
    """The record that a task came from: its queue, partition and offset."""

    queue: str
    partition: int
    offset: int


class TaskQuery(Struct, frozen=True, kw_only=True):
    """The task that a reader asks for."""

    id: str
    records: tuple[QueueRecord, ...] = ()
    """Records that may be the task; each is looked at exactly."""
    look: int = 0
    """How many further pending records to search for the id at most, of all queues together."""
    seconds: float = 2.0
    """When to return with the part that was searched by then."""


class TaskSighting(Struct, frozen=True, kw_only=True):
    """A record of the task, or a requested record, as one consumer group sees it."""

    queue: str
    consumer_group: str | None
    partition: int | None
    offset: int | None
    status: str | None
    """`pending`; `consumed`: the group has committed it; `absent`: there is no such record; null:
    the source cannot know, see `why`."""
    ahead: int | None = None
    """Pending tasks before it in its partition."""
    ahead_exact: bool | None = None
    """Whether `ahead` is exact or an upper bound."""
    task: PendingTask | None = None
    """The task in the record; null: the record was not read, see `why`."""
    why: str | None = None


class SearchedRange(Struct, frozen=True, kw_only=True):
    """How far one partition was searched for an id: its pending records, oldest first."""

    queue: str
    partition: int | None
    first: int
    next: int
    """The first offset that was not searched."""
    end: int
    """The end of the pending records."""
    why: str | None = None
    """Why it was not searched to the end; null: it was."""


class SearchResult(Struct, frozen=True, kw_only=True):
    """The answer of one collector."""

    sightings: list[TaskSighting] = []
    searched: list[SearchedRange] = []
    unchecked: list[str] = []
    """Other reasons why the task may be there unseen, one line each."""


Search = Callable[[TaskQuery], Awaitable[SearchResult]]


def shares(look: int, waiting: Mapping[T, int]) -> dict[T, int]:
    """Share the records of a look among places with so many waiting records each.

    The least first, so that as many places as possible are searched to their end.
    """
    given: dict[T, int] = {}
    for at, place in enumerate(sorted(waiting, key=waiting.__getitem__)):
        given[place] = min(waiting[place], look // (len(waiting) - at))
        look -= given[place]
    return given
