"""Who waits for a change of what: long polls are woken by the changes they would be shown."""

import asyncio
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Hashable
from contextlib import suppress
from typing import NamedTuple

from telemetron.clock import Clock
from telemetron.store.store import Publication

# A reader that asks again and again with the newest place is answered once in this time.
PACE_SECONDS = 1.0
# So many that ask the same in that time, and need not wait, are answered at once.
AT_ONCE = 20


class View(NamedTuple):
    """What is shown: the sources and these sections, or one entity of one section."""

    sections: tuple[str, ...]
    key: str | None = None

    def is_touched(self, publication: Publication, measures: bool) -> bool:
        """Whether the publication changed more than measures of it; with `measures`, anything."""
        if self.key is None:
            named = ("sources", *self.sections)
            moved = (moved for s in named for moved in publication.changed.get(s, {}).values())
        else:
            own = publication.changed.get(self.sections[0], {})
            rows = publication.changed.get("sources", {}).values()
            moved = (moved for moved in (*rows, *([own[self.key]] if self.key in own else ())))
        return any(measures or state for state in moved)


class Waiters:
    """The long polls that wait, by what they show; and when recent revisions arose."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[tuple[View, bool], set[asyncio.Future[None]]] = {}
        self._recent: deque[tuple[int, float]] = deque()
        self._asked: Counter[int] = Counter()
        self._asked_since = -PACE_SECONDS
        self._stopped: asyncio.Event = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether every wait ends at once."""
        return self._stopped.is_set()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def published(self, publication: Publication) -> None:
        """Wake those that are shown something new; a watcher of the store."""
        now = self._clock.monotonic()
        self._recent.append((publication.snapshot.change.revision, now))
        while self._recent[0][1] < now - PACE_SECONDS:
            self._recent.popleft()
        for (view, measures), futures in list(self._waiting.items()):
            if view.is_touched(publication, measures):
                _wake(futures)

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._stopped.set()
        for futures in self._waiting.values():
            _wake(futures)

    async def wait(self, view: View, measures: bool, timeout: float) -> bool:
        """Whether something new is shown; False when the time is up or the server stops."""
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
        """Sleep, unless the server stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def at_once(self, question: Hashable) -> float:
        """Seconds until a question that need not wait is answered, which many may ask.

        A client that asks it in a loop would otherwise do so thousands of times a second.
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
        """Seconds until the revision is old enough to be answered."""
        at = bisect_left(self._recent, (revision, 0.0))
        if at == len(self._recent) or self._recent[at][0] != revision:
            return 0.0
        return max(0.0, self._recent[at][1] + PACE_SECONDS - self._clock.monotonic())


def _wake(futures: set[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
