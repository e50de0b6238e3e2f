"""The memory: what each receiver was sent, kept in the file of the history over a restart.

Whatever is saved here can be loaded by another process that goes on: so could a log of replicas.
"""

from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Protocol

from loguru import logger

from telemetron.clock import Clock
from telemetron.history.history import BusyError, History
from telemetron.history.place import milliseconds
from telemetron.history.timeline import Timeline

PREFIX = "notifications/"
"""Of the names of its notes."""
OPEN_SECONDS = 10.0
"""How long to wait at the start for a file that another process still has locked."""
RETRY_SECONDS = 0.5
ASK_SECONDS = 5.0


class Memory(Protocol):
    """Keeps a few bytes for each receiver."""

    has_lost: bool
    """Whether an earlier process may have sent events that are no longer known."""

    async def load(self, names: Collection[str]) -> dict[str, bytes]:
        """Return the saved bytes by name, and forget all other names."""

    async def save(self, name: str, body: bytes) -> None:
        """Save before anything that depends on it is sent. It logs failures and raises none."""


class HistoryMemory:
    """The memory in the history's file; without a file, in this process."""

    def __init__(self, history: History, clock: Clock) -> None:
        self.has_lost = not history.has_file
        self._history = history
        self._clock = clock
        self._saved: dict[str, bytes] = {}
        """For a run that goes on after a crash."""
        self._is_failing = False

    async def load(self, names: Collection[str]) -> dict[str, bytes]:
        """Return the bytes that this process saved, else those of the one before it."""
        if self._saved or not self._history.has_file:
            return dict(self._saved)
        deadline = self._clock.monotonic() + OPEN_SECONDS
        while self._clock.monotonic() < deadline:
            with suppress(BusyError):
                notes = await self._history.ask(partial(_load, frozenset(names)), ASK_SECONDS)
                if notes is not None:
                    return notes
            await self._clock.sleep(RETRY_SECONDS)
        logger.warning("the history file does not answer; findings are reported again")
        self.has_lost = True
        return {}

    async def save(self, name: str, body: bytes) -> None:
        self._saved[name] = body
        if not self._history.has_file:
            return
        at = milliseconds(self._clock.now())
        try:
            await self._history.ask(partial(_save, name, body, at), ASK_SECONDS)
        except BusyError as error:
            if not self._is_failing:
                logger.warning("notifications are sent, but cannot be remembered: {}", error)
            self._is_failing = True
        else:
            self._is_failing = False


def _load(names: Collection[str], timeline: Timeline) -> dict[str, bytes] | None:
    if timeline.file is None:
        return None
    notes = timeline.file.notes(PREFIX)
    for name in notes:
        if name.removeprefix(PREFIX) not in names:
            timeline.file.drop_note(name)
    found = {name.removeprefix(PREFIX): body for name, body in notes.items()}
    return {name: found[name] for name in found.keys() & set(names)}


def _save(name: str, body: bytes, at: int, timeline: Timeline) -> None:
    """Write the findings first: an edge must not be known without its finding."""
    if timeline.file is None:
        raise BusyError("the history file is not open")
    timeline.write(at)
    timeline.file.put_note(PREFIX + name, body)
