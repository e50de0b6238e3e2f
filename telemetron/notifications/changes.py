"""The changes of the state as events: a cursor over the places of the history."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from math import inf

import msgspec

from telemetron.clock import Clock
from telemetron.history import queries
from telemetron.history.archive import GoneError
from telemetron.history.history import BusyError, History
from telemetron.history.place import Place
from telemetron.history.queries import Asked, Diff
from telemetron.history.timeline import Timeline
from telemetron.notifications import event as events
from telemetron.notifications.event import Event
from telemetron.notifications.pace import Pace

LIMIT = 1_000
LOST = "the changes since the last event are not in the history"


class Changes:
    """The changes after `place`, as one event at a time: a slow receiver gets net changes."""

    def __init__(
        self,
        history: History,
        clock: Clock,
        pace: Pace,
        system: str,
        url: str,
        since: str | None = None,
        sections: Collection[str] = (),
    ) -> None:
        self._history = history
        self._clock = clock
        self._pace = pace
        self._system, self._url = system, url
        self._asked = Asked(since, sections=tuple(sections), measures="none", limit=LIMIT)
        self._has_moved = True
        """Whether the history has grown since the last question."""
        self._not_before = 0.0
        self._wake: Callable[[], None] = lambda: None
        history.listeners.append(self._moved)

    def begin(self, place: str | None, wake: Callable[[], None]) -> None:
        """Continue after this place, or where the run began; `wake` is called on news."""
        self._asked = self._asked._replace(since=place or self._asked.since)
        self._wake = wake

    def end(self) -> None:
        """Ask for no further changes."""
        self._history.listeners.remove(self._moved)

    @property
    def place(self) -> str | None:
        """The place from which on changes are not queued yet."""
        return self._asked.since

    def seconds(self, queue: Iterable[Event]) -> float:
        """Return the seconds until `next` is due; infinity if nothing has changed.

        It is infinity, too, while an event of changes waits: there is never more than one.
        """
        if not self._has_moved or any(one.type == events.CHANGE for one in queue):
            return inf
        return max(0.0, self._not_before - self._clock.monotonic())

    async def next(self) -> Event | str | None:
        """Return the next event, None if nothing changed, or why the changes are lost."""
        self._has_moved = False
        self._not_before = self._clock.monotonic() + self._pace.least
        try:
            return self._event(await self._history.ask(partial(_news, self._asked)))
        except GoneError:
            self._asked = self._asked._replace(since=None, until=None, after=None)
            return LOST
        except BusyError:
            self._has_moved = True
            return None

    def _event(self, answer: Diff) -> Event | None:
        asked = self._asked
        if answer.after:  # `since` stays, so that a restart sends all parts again
            self._asked = asked._replace(until=answer.to, after=answer.after)
            self._has_moved = True
        else:
            self._asked = asked._replace(since=answer.to, until=None, after=None)
        if answer.empty:
            return None
        data = {"system": self._system, "url": f"{self._url}/system/state"}
        data |= msgspec.json.decode(answer.body)
        identity = asked.since, answer.to, asked.after, *asked.sections
        now = self._clock.now()
        return events.make(self._system, events.CHANGE, "", now, data, *identity)

    def _moved(self, place: Place) -> None:
        if not self._has_moved:
            self._has_moved = True
            self._wake()


def _news(asked: Asked, timeline: Timeline) -> Diff:
    if asked.since is None:
        return Diff(b"", str(timeline.tip), True)
    return queries.news(timeline, asked)
