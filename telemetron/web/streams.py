"""Streams: who waits for changes after which place; each of them is told once, many at a time.

A reader is a cursor: those who wait for the same after the same place share one answer, and who
reads slowly is told later, of all that happened since, net.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from telemetron.archive import GoneError
from telemetron.history import BusyError, History
from telemetron.place import Place
from telemetron.timeline import Answer, Asked, Timeline

GAP_SECONDS = 0.02
# What a reader costs, so that many are told less often.
READER_SECONDS = 0.00005
RETRY_SECONDS = 1.0


class Waiter:
    """One reader that waits for what it asks; `asked.since` moves on over what it does not ask."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.told: asyncio.Future[Answer | GoneError] = asyncio.Future()


class Streams:
    """All readers that wait for changes."""

    def __init__(self, history: History) -> None:
        self.stopping = False
        self._history = history
        self._waiting: dict[Asked, list[Waiter]] = {}
        self._latest = ""
        self._task: asyncio.Task[None] | None = None
        self._missed = False
        history.listeners.append(self._news)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def wait(self, asked: Asked) -> Waiter:
        """To be told of changes after `asked.since`: GoneError where that is not kept any more."""
        waiter = Waiter(asked)
        self._waiting.setdefault(asked, []).append(waiter)
        if self.stopping:
            waiter.told.cancel()
        elif asked.since != self._latest:
            self._tell()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """It waits no more."""
        waiter.told.cancel()
        group = self._waiting.get(waiter.asked, [])
        with suppress(ValueError):
            group.remove(waiter)
        if not group:
            self._waiting.pop(waiter.asked, None)

    def stop(self) -> None:
        """End all, now and from now on."""
        self.stopping = True
        if self._task:
            self._task.cancel()
        for group in self._waiting.values():
            for waiter in group:
                waiter.told.cancel()

    def _news(self, place: Place) -> None:
        self._latest = str(place)
        self._tell()

    def _tell(self) -> None:
        if self._task is not None:
            self._missed = True
        elif self._waiting and not self.stopping:
            self._task = asyncio.create_task(self._tell_all())
            self._task.add_done_callback(self._told)

    def _told(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if self._missed and not task.cancelled():
            self._missed = False
            self._tell()

    async def _tell_all(self) -> None:
        readers = len(self)
        groups = list(self._waiting)
        try:
            answers = await self._history.ask(lambda timeline: _answers(timeline, groups))
        except BusyError:
            self._missed = True
            await asyncio.sleep(RETRY_SECONDS)
            return
        for asked, answer in zip(groups, answers, strict=True):
            self._tell_group(asked, answer)
        await asyncio.sleep(max(GAP_SECONDS, readers * READER_SECONDS))

    def _tell_group(self, asked: Asked, answer: Answer | GoneError) -> None:
        waiters = self._waiting.pop(asked, [])
        if isinstance(answer, Answer) and answer.empty:
            asked = asked._replace(since=answer.to)
            for waiter in waiters:
                waiter.asked = asked
            self._waiting.setdefault(asked, []).extend(waiters)
            return
        for waiter in waiters:
            if not waiter.told.done():
                waiter.told.set_result(answer)


def _answers(timeline: Timeline, groups: Sequence[Asked]) -> list[Answer | GoneError]:
    return [_answer(timeline, asked) for asked in groups]


def _answer(timeline: Timeline, asked: Asked) -> Answer | GoneError:
    try:
        return timeline.after(asked)
    except GoneError as error:
        return error
