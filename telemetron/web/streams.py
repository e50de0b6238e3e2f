"""Streams of events: every open stream waits for changes after a place.

A stream is a cursor. Streams that wait for the same changes after the same place share one answer.
A slow client gets fewer events, each with the net changes since its last one.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from loguru import logger
from msgspec import Struct

from telemetron.history import queries
from telemetron.history.archive import GoneError
from telemetron.history.history import BusyError, History
from telemetron.history.place import Place
from telemetron.history.queries import Asked, Diff
from telemetron.history.timeline import Timeline
from telemetron.web.server.connection import transfer_chunk


class Durations(Struct, frozen=True):
    """How long streams wait and how long answers for them may take, in seconds."""

    comment: float = 15.0
    """Between two comments, which show clients and proxies that a stream is open."""
    pause: float = 0.02
    """Between two rounds."""
    pause_per_event: float = 0.00005
    """Further pause for each event sent, so that many streams get events less often."""
    retry: float = 1.0
    """Until a question that failed is asked again."""
    round: float = 0.1
    """Streams at the newest places go first for this long, then the oldest wait."""
    batch: float = 0.02
    """Work of the history's thread for streams at a time; others ask it too."""


class StreamEvent(NamedTuple):
    """The bytes that all streams of a group get, and the question of the group after it."""

    chunks: tuple[bytes, ...]
    """Empty: there is no event, the group only moves on."""
    asked: Asked


class Stream:
    """One open stream; `asked.since` moves on past changes that it does not ask for."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.next: asyncio.Future[StreamEvent | None] = asyncio.get_running_loop().create_future()
        self.is_closed = False

    def settle(self, event: StreamEvent | None) -> None:
        """End its wait with this event."""
        if not self.next.done():
            self.next.set_result(event)

    def close(self) -> None:
        """End its wait, and every later one."""
        self.is_closed = True
        self.settle(None)


class Streams:
    """All streams that wait, grouped by their question."""

    def __init__(self, history: History, durations: Durations | None = None) -> None:
        self.stopping = False
        self._history = history
        self._durations = durations or Durations()
        self._waiting: dict[Asked, set[Stream]] = {}
        """The groups in the order of their waits, the longest first."""
        self._failed: set[Asked] = set()
        self._latest = ""
        self._round: asyncio.Task[None] | None = None
        self._again = False
        """Whether another round is due after this one."""
        self._comment: asyncio.TimerHandle | None = None
        history.listeners.append(self._advanced)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def wait(self, stream: Stream) -> StreamEvent | None:
        """Return the stream's next event; None at its end."""
        if self.stopping or stream.is_closed:
            return None
        loop = asyncio.get_running_loop()
        stream.next = loop.create_future()
        self._waiting.setdefault(stream.asked, set()).add(stream)
        if stream.asked.since != self._latest:
            self._start_round()
        if self._comment is None:
            self._comment = loop.call_later(self._durations.comment, self._send_comments)
        try:
            return await stream.next
        finally:
            self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        group = self._waiting.get(stream.asked)
        if group is not None:
            group.discard(stream)
            if not group:
                del self._waiting[stream.asked]

    def stop(self) -> None:
        """End all streams, and every later one."""
        self.stopping = True
        if self._round:
            self._round.cancel()
        if self._comment:
            self._comment.cancel()
        for group in self._waiting.values():
            for stream in group:
                stream.settle(None)

    def _advanced(self, place: Place) -> None:
        """Answer what waits, now that the history has reached this place."""
        self._latest = str(place)
        self._start_round()

    def _send_comments(self) -> None:
        """Show clients and proxies that the streams are open, and the place they have reached."""
        self._comment = None
        for asked in list(self._waiting):
            self._send(asked, event(b": still here\n", asked))

    # rounds

    def _start_round(self) -> None:
        if self._round is not None:
            self._again = True
        elif self._waiting and not self.stopping:
            self._round = asyncio.create_task(self._answer_all())
            self._round.add_done_callback(self._end_round)

    def _end_round(self, task: "asyncio.Task[None]") -> None:
        self._round = None
        if self._again and not task.cancelled():
            self._again = False
            self._start_round()

    async def _answer_all(self) -> None:
        """Answer groups, newest places first, until the time is up; then the oldest of the rest."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._durations.round
        due = [
            one for one in self._waiting if one.since != self._latest and one not in self._failed
        ]
        epoch = self._latest.partition(".")[0]
        groups = sorted(due, key=lambda one: _age(one, epoch))
        sent = 0
        while groups and loop.time() < until:
            sent += await self._answer(groups)
        if groups:
            self._again = True
            left = set(groups)
            sent += await self._answer([next(one for one in due if one in left)])
        await asyncio.sleep(max(self._durations.pause, sent * self._durations.pause_per_event))

    async def _answer(self, groups: list[Asked]) -> int:
        """Answer some of the first groups and remove them from the list; return the events sent.

        A group whose question fails asks again later, and delays no other group.
        """
        asked, seconds = tuple(groups), self._durations.batch
        try:
            found = await self._history.ask(lambda timeline: _events(timeline, asked, seconds))
        except Exception as error:
            self._fail(groups.pop(0), error)
            return 0
        del groups[: len(found)]
        return sum(map(self._send, asked, found))

    def _fail(self, asked: Asked, error: Exception) -> None:
        if not isinstance(error, BusyError):
            logger.opt(exception=error).error(
                "cannot send changes after {}; retrying in {} s", asked.since, self._durations.retry
            )
        self._failed.add(asked)
        asyncio.get_running_loop().call_later(self._durations.retry, self._retry, asked)

    def _retry(self, asked: Asked) -> None:
        self._failed.discard(asked)
        self._start_round()

    def _send(self, asked: Asked, event: StreamEvent) -> int:
        """Send the event to a group, or move the group on; return the number of events sent."""
        group = self._waiting.pop(asked, None)
        if not group:
            return 0
        for stream in group:
            stream.asked = event.asked
            if event.chunks:
                stream.settle(event)
        if event.chunks:
            return len(group)
        self._waiting.setdefault(event.asked, set()).update(group)
        return 0


def event(text: bytes, asked: Asked) -> StreamEvent:
    """Return an event or a comment; its id is the place after which the stream continues."""
    whole = b"%sid: %s\n\n" % (text, str(asked.since).encode())
    return StreamEvent((transfer_chunk(whole),), asked)


def _age(asked: Asked, epoch: str) -> tuple[bool, int, int]:
    """Return a sort key that is smaller for newer places."""
    its_epoch, _, place = str(asked.since).partition(".")
    revision, _, step = place.partition("-")
    return its_epoch != epoch, -int(revision), -int(step or 0)


def _events(timeline: Timeline, groups: Sequence[Asked], seconds: float) -> list[StreamEvent]:
    """Return the events of the first groups, as many as take this time.

    Raises an exception only for the first group, so that the caller knows whose question failed.
    """
    until = time.perf_counter() + seconds
    found: list[StreamEvent] = []
    for asked in groups:
        try:
            found.append(_event(timeline, asked))
        except Exception:
            if not found:
                raise
            break
        if time.perf_counter() > until:
            break
    return found


def _event(timeline: Timeline, asked: Asked) -> StreamEvent:
    """Return the event for a group; it has no chunks if nothing that the group asks for changed."""
    try:
        answer = queries.news(timeline, asked)
    except GoneError as error:
        answer = queries.gap(timeline, str(error), asked.since)
        return event(b"event: gap\ndata: %s\n" % answer.body, _next(asked, answer))
    if answer.empty:
        return StreamEvent((), _next(asked, answer))
    return event(b"data: %s\n" % answer.body, _next(asked, answer))


def _next(asked: Asked, answer: Diff) -> Asked:
    """Return the question after an answer: for its rest if it was truncated.

    `since` stays until the rest is sent, so that a client that is cut off before gets it all again.
    """
    if answer.after:
        return asked._replace(until=answer.to, after=answer.after)
    return asked._replace(since=answer.to, until=None, after=None, cut=False)
