"""Streams: who waits for changes after which place; each of them is told once, many at a time.

A reader is a cursor: those who wait for the same after the same place share one answer, and who
reads slowly is told later, of all that happened since, net.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from loguru import logger

from telemetron.history import queries
from telemetron.history.archive import GoneError
from telemetron.history.history import BusyError, History
from telemetron.history.place import Place
from telemetron.history.queries import Asked, Diff
from telemetron.history.timeline import Timeline
from telemetron.web.server.connection import transfer_chunk

COMMENT_SECONDS = 15.0
GAP_SECONDS = 0.02
# What a reader costs, so that many are told less often.
READER_SECONDS = 0.00005
RETRY_SECONDS = 1.0
# So long those at the newest places go first; then who has waited longest has a turn.
ROUND_SECONDS = 0.1
# So long the history answers for streams at one go; others ask it too.
BATCH_SECONDS = 0.02


class Event(NamedTuple):
    """What is sent, the same bytes to all who wait for the same; and what they wait for then."""

    chunks: tuple[bytes, ...]
    asked: Asked


class Reader:
    """One reader, and what it waits for; `asked.since` moves on over what it does not ask."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.told: asyncio.Future[Event | None] = asyncio.get_running_loop().create_future()
        self.gone = False

    def settle(self, event: Event | None) -> None:
        """End its wait."""
        if not self.told.done():
            self.told.set_result(event)

    def leave(self) -> None:
        """It waits no more."""
        self.gone = True
        self.settle(None)


class Streams:
    """All readers that wait for changes."""

    def __init__(self, history: History) -> None:
        self.stopping = False
        self._history = history
        self._waiting: dict[Asked, set[Reader]] = {}
        """Who has waited longest comes first."""
        self._failed: set[Asked] = set()
        self._latest = ""
        self._task: asyncio.Task[None] | None = None
        self._missed = False
        self._comment: asyncio.TimerHandle | None = None
        history.listeners.append(self._news)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def wait(self, reader: Reader) -> Event | None:
        """What the reader is told next; None: nothing more."""
        if self.stopping or reader.gone:
            return None
        loop = asyncio.get_running_loop()
        reader.told = loop.create_future()
        self._waiting.setdefault(reader.asked, set()).add(reader)
        if reader.asked.since != self._latest:
            self._tell()
        if self._comment is None:
            self._comment = loop.call_later(COMMENT_SECONDS, self._comment_all)
        try:
            return await reader.told
        finally:
            self._forget(reader)

    def _forget(self, reader: Reader) -> None:
        group = self._waiting.get(reader.asked)
        if group is not None:
            group.discard(reader)
            if not group:
                del self._waiting[reader.asked]

    def stop(self) -> None:
        """End all, now and from now on."""
        self.stopping = True
        if self._task:
            self._task.cancel()
        if self._comment:
            self._comment.cancel()
        for group in self._waiting.values():
            for reader in group:
                reader.settle(None)

    def _news(self, place: Place) -> None:
        self._latest = str(place)
        self._tell()

    def _comment_all(self) -> None:
        """Proxies and readers see that the stream is still there, and where it is."""
        self._comment = None
        for asked in list(self._waiting):
            self._tell_group(asked, event(b": still here\n", asked))

    # rounds

    def _tell(self) -> None:
        if self._task is not None:
            self._missed = True
        elif self._waiting and not self.stopping:
            self._task = asyncio.create_task(self._tell_round())
            self._task.add_done_callback(self._told)

    def _told(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if self._missed and not task.cancelled():
            self._missed = False
            self._tell()

    async def _tell_round(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + ROUND_SECONDS
        due = [
            one for one in self._waiting if one.since != self._latest and one not in self._failed
        ]
        epoch = self._latest.partition(".")[0]
        groups = sorted(due, key=lambda one: _age(one, epoch))
        told = 0
        while groups and loop.time() < until:
            told += await self._answer(groups)
        if groups:
            self._missed = True
            left = set(groups)
            told += await self._answer([next(one for one in due if one in left)])
        await asyncio.sleep(max(GAP_SECONDS, told * READER_SECONDS))

    async def _answer(self, groups: list[Asked]) -> int:
        """Tell some of the first, which leave the list; how many readers that were.

        A group whose question fails asks again later, and keeps up nobody else.
        """
        asked = tuple(groups)
        try:
            found = await self._history.ask(lambda timeline: _some(timeline, asked))
        except Exception as error:
            self._fail(groups.pop(0), error)
            return 0
        del groups[: len(found)]
        return sum(map(self._tell_group, asked, found))

    def _fail(self, asked: Asked, error: Exception) -> None:
        if not isinstance(error, BusyError):
            logger.opt(exception=error).error("changes after {} cannot be told", asked.since)
        self._failed.add(asked)
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry, asked)

    def _retry(self, asked: Asked) -> None:
        self._failed.discard(asked)
        self._tell()

    def _tell_group(self, asked: Asked, event: Event) -> int:
        """How many were told; without chunks they only move on."""
        readers = self._waiting.pop(asked, None)
        if not readers:
            return 0
        for reader in readers:
            reader.asked = event.asked
            if event.chunks:
                reader.settle(event)
        if event.chunks:
            return len(readers)
        self._waiting.setdefault(event.asked, set()).update(readers)
        return 0


def event(text: bytes, asked: Asked) -> Event:
    """An event, or a comment; its id is the place to go on after."""
    return Event((transfer_chunk(b"%sid: %s\n\n" % (text, str(asked.since).encode())),), asked)


def _age(asked: Asked, epoch: str) -> tuple[bool, int, int]:
    """Smaller for newer places."""
    its_epoch, _, place = str(asked.since).partition(".")
    revision, _, step = place.partition("-")
    return its_epoch != epoch, -int(revision), -int(step or 0)


def _some(timeline: Timeline, groups: Sequence[Asked]) -> list[Event]:
    """Answers for the first groups, while there is time; raises for the first alone."""
    until = time.perf_counter() + BATCH_SECONDS
    found: list[Event] = []
    for asked in groups:
        try:
            found.append(_found(timeline, asked))
        except Exception:
            if not found:
                raise
            break
        if time.perf_counter() > until:
            break
    return found


def _found(timeline: Timeline, asked: Asked) -> Event:
    """What is told now, and what is asked then; without chunks: nothing is told."""
    try:
        answer = queries.news(timeline, asked)
    except GoneError as error:
        answer = queries.gap(timeline, str(error), asked.since)
        return event(b"event: gap\ndata: %s\n" % answer.body, _next(asked, answer))
    if answer.empty:
        return Event((), _next(asked, answer))
    return event(b"data: %s\n" % answer.body, _next(asked, answer))


def _next(asked: Asked, answer: Diff) -> Asked:
    """First the rest of it, which is told again to who is cut off before its end."""
    if answer.after:
        return asked._replace(until=answer.to, after=answer.after)
    return asked._replace(since=answer.to, until=None, after=None, cut=False)
