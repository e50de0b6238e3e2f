"""Long polls: each waits for changes in its own view, and only those wake it."""

import asyncio
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Hashable
from contextlib import suppress
from typing import NamedTuple

from telemetron.clock import Clock
from telemetron.store.store import Publication

PACE_SECONDS = 1.0
"""A client that polls in a tight loop with the newest place gets one answer in this time."""
AT_ONCE = 20
"""Equal requests that need not wait and are answered at once in that time."""


class View(NamedTuple):
    """The part of the state that an answer has: these sections, or one entity of one section.

    The sources belong to every view.
    """

    sections: tuple[str, ...]
    key: str | None = None

    def is_touched(self, publication: Publication, measures: bool) -> bool:
        """Whether the publication changed the view's state or, with `measures`, its measures."""
        if self.key is None:
            named = ("sources", *self.sections)
            moved = (moved for s in named for moved in publication.changed.get(s, {}).values())
        else:
            own = publication.changed.get(self.sections[0], {})
            rows = publication.changed.get("sources", {}).values()
            moved = (moved for moved in (*rows, *([own[self.key]] if self.key in own else ())))
        return any(measures or state for state in moved)


class Waiters:
    """The waiting long polls by view, and the times of recent revisions."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[tuple[View, bool], set[asyncio.Future[None]]] = {}
        self._recent: deque[tuple[int, float]] = deque()
        self._asked: Counter[int] = Counter()
        self._asked_since = -PACE_SECONDS
        self._stopped: asyncio.Event = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the server stops, so that every wait ends at once."""
        return self._stopped.is_set()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def published(self, publication: Publication) -> None:
        """Wake the long polls whose view changed; a watcher of the store."""
        now = self._clock.monotonic()
        self._recent.append((publication.snapshot.change.revision, now))
        while self._recent[0][1] < now - PACE_SECONDS:
            self._recent.popleft()
        for (view, measures), futures in list(self._waiting.items()):
            if view.is_touched(publication, measures):
                _wake(futures)

    def stop(self) -> None:
        """End every wait, and every later one."""
        self._stopped.set()
        for futures in self._waiting.values():
            _wake(futures)

    async def wait(self, view: View, measures: bool, timeout: float) -> bool:
        """Wait until the view changes; return False after `timeout` seconds or at a stop."""
        if self.stopping or timeout <= 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault((view, measures), set())
        futures.add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            futures.discard(future)
            if not futures and self._waiting.get((view, measures)) is futures:
                del self._waiting[view, measures]
        return not self.stopping

    async def pause(self, seconds: float) -> None:
        """Sleep, or return early if the server stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def at_once(self, question: Hashable) -> float:
        """Return the seconds to delay a request that need not wait; 0 for the first `AT_ONCE`.

        A client that sends such a request in a loop would otherwise do so thousands of times a
        second. Equal requests of different clients count together.
        """
        now = self._clock.monotonic()
        if now >= self._asked_since + PACE_SECONDS:
            self._asked.clear()
            self._asked_since = now
        number = hash(question)
        self._asked[number] += 1
        late = self._asked[number] > AT_ONCE
        return self._asked_since + PACE_SECONDS - now if late else 0.0

    def too_soon(self, revision: int) -> float:
        """Return the seconds until a long poll after this revision may be answered."""
        at = bisect_left(self._recent, (revision, 0.0))
        if at == len(self._recent) or self._recent[at][0] != revision:
            return 0.0
        return max(0.0, self._recent[at][1] + PACE_SECONDS - self._clock.monotonic())


def _wake(futures: set[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
