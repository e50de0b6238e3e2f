"""Questions to the history, and what HTTP says where it has no answer."""

from collections.abc import Callable
from typing import TypeVar

from telemetron.history.archive import GoneError
from telemetron.history.history import BusyError, History
from telemetron.history.timeline import Timeline
from telemetron.http import HttpProblem

T = TypeVar("T")


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
