"""Questions to the history, and the HTTP problems if it cannot answer them."""

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


def place_or_time(name: str, given: Mapping[str, str], now: datetime) -> Place | datetime | None:
    """Return the place or the time that a parameter names; None if it is not given.

    Raises a 400 for any other value.
    """
    if name not in given:
        return None
    found = parse(given[name], now)
    if found is None:
        expected = "a place (an ETag), a time with its zone, or an age such as 30s, 5m, 2h or 1d"
        raise HttpProblem(400, f"{name}: expected {expected}; got {shown(given[name])}")
    return found


async def recall(history: History, question: Callable[[Timeline], T]) -> T:
    """Return the answer of the history's thread.

    Raises HttpProblem: 400 for a wrong question, 410 for a place that is not kept, 503 if too many
    questions wait or the file cannot be read.
    """
    try:
        return await history.ask(lambda timeline: _answer(timeline, question))
    except BusyError as error:
        raise HttpProblem(503, str(error), {"retry-after": "1"}) from None
    except ValueError as error:
        raise HttpProblem(400, str(error)) from None


def _answer(timeline: Timeline, question: Callable[[Timeline], T]) -> T:
    try:
        return question(timeline)
    except GoneError as error:
        place = timeline.oldest()
        oldest = str(place) if place else None
        raise HttpProblem(
            410, f"{error}; the oldest place kept is {oldest}", oldest=oldest
        ) from None
