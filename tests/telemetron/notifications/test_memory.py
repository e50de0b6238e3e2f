"""The memory keeps what was sent in the history's file, and goes on without it."""

import asyncio
from pathlib import Path

from telemetron.history.history import History
from telemetron.notifications.memory import HistoryMemory
from telemetron.store.store import Store
from telemetron.testing import FakeClock
from tests.telemetron.notifications.stage import join_histories

NAMES = ["webhook a", "alertmanager"]


class Life:
    """One process with a history."""

    def __init__(self, path: Path | None, clock: FakeClock) -> None:
        self.history = History(Store("atlas", clock), path=str(path) if path else None)
        self.memory = HistoryMemory(self.history, clock)

    async def __aenter__(self) -> HistoryMemory:
        self.history.start()
        return self.memory

    async def __aexit__(self, *_: object) -> None:
        await self.history.stop()
        await asyncio.to_thread(join_histories)


async def test_a_later_process_knows_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    async with Life(path, FakeClock()) as memory:
        assert await memory.load(NAMES) == {}
        assert not memory.has_lost
        await memory.save("webhook a", b"1")
        await memory.save("webhook a", b"2")
        await memory.save("alertmanager", b"3")
    async with Life(path, FakeClock()) as memory:
        assert await memory.load([*NAMES, "webhook new"]) == {
            "webhook a": b"2",
            "alertmanager": b"3",
        }
        assert await memory.load(["alertmanager"]) == {"alertmanager": b"3"}
        assert await memory.load(NAMES) == {"alertmanager": b"3"}  # the webhook was removed


async def test_without_a_file_only_this_process_knows() -> None:
    async with Life(None, FakeClock()) as memory:
        assert memory.has_lost
        await memory.save("webhook a", b"1")
        assert await memory.load(NAMES) == {"webhook a": b"1"}
    async with Life(None, FakeClock()) as memory:
        assert await memory.load(NAMES) == {}


async def test_a_file_that_cannot_be_used_delays_nothing(tmp_path: Path, logged: list[str]) -> None:
    clock = FakeClock()
    async with Life(tmp_path, clock) as memory:  # a folder
        loading = asyncio.create_task(memory.load(NAMES))
        async with asyncio.timeout(30):
            while not loading.done():
                clock.advance(1)
                await asyncio.sleep(0.01)
        assert loading.result() == {}
        assert memory.has_lost
        for _ in range(2):
            await memory.save("webhook a", b"1")
    assert sum("cannot be remembered" in line for line in logged) == 1
