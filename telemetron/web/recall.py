"""Questions to the history, and what HTTP says where it has no answer."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from telemetron.history.archive import GoneError
from telemetron.history.history import BusyError, History
from telemetron.history.place import Place, parse
from telemetron.history.timeline import Timeline
from telemetron.http import HttpProblem
from telemetron.query import shown

T = TypeVar("T")


def when(name: str, given: Mapping[str, str], now: datetime) -> Place | datetime | None:
    """Return the place or time that a parameter names, None without it; 400 if it names neither."""
    if name not in given:
        return None
    found = parse(given[name], now)
    if found is None:
        expected = "a place (an ETag), a time with its zone, or how long ago, as 30s, 5m, 2h or 1d"
        raise HttpProblem(400, f"{name}: expected {expected}; got {shown(given[name])}")
    return found


async def recall(history: History, question: Callable[[Timeline], T]) -> T:
    """What the timeline answers; 400, 410 with the oldest place that is kept, or 503."""
    try:
        return await history.ask(lambda timeline: _told(timeline, question))
    except BusyError as error:
        raise HttpProblem(503, str(error), {"retry-after": "1"}) from None
    except ValueError as error:
        raise HttpProblem(400, str(error)) from None


def _told(timeline: Timeline, question: Callable[[Timeline], T]) -> T:
    try:
        return question(timeline)
    except GoneError as error:
        raise gone(error, oldest(timeline)) from None


def oldest(timeline: Timeline) -> str | None:
    """The oldest place that can be asked for."""
    place = timeline.oldest()
    return place and str(place)


def gone(error: GoneError, oldest: str | None) -> HttpProblem:
    """The 410."""
    detail = f"{error}; the oldest place that can be asked for is {oldest}"
    return HttpProblem(410, detail, oldest=oldest)
