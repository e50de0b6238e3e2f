"""The memory: what each receiver was sent, kept in the file of the history over a restart.

Whatever is saved here can be loaded by another process that goes on: so could a log of replicas.
"""

from contextlib import suppress
from functools import partial
from typing import Protocol

from loguru import logger

from telemetron.clock import Clock
from telemetron.history.history import BusyError, History
from telemetron.history.place import milliseconds
from telemetron.history.timeline import Timeline

OPEN_SECONDS = 10.0
"""How long to wait at the start for a file that another process still has locked."""
RETRY_SECONDS = 0.5
ASK_SECONDS = 5.0


class Memory(Protocol):
    """Keeps a few bytes for each receiver."""

    has_lost: bool
    """Whether an earlier process may have sent events that are no longer known."""

    async def load(self) -> dict[str, bytes]:
        """Return everything that was saved, by name."""

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

    async def load(self) -> dict[str, bytes]:
        """Return what this process saved, else what the one before it did."""
        if self._saved or not self._history.has_file:
            return dict(self._saved)
        deadline = self._clock.monotonic() + OPEN_SECONDS
        while self._clock.monotonic() < deadline:
            with suppress(BusyError):
                notes = await self._history.ask(_load, ASK_SECONDS)
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


def _load(timeline: Timeline) -> dict[str, bytes] | None:
    return None if timeline.file is None else timeline.file.notes()


def _save(name: str, body: bytes, at: int, timeline: Timeline) -> None:
    """Write the findings first: an edge must not be known without its finding."""
    if timeline.file is None:
        raise BusyError("the history file is not open")
    timeline.write(at)
    timeline.file.put_note(name, body)
