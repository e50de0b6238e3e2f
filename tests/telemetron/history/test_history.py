"""The thread that records, its file, and what it says where it cannot."""

import asyncio
import os
import sqlite3
import stat
import threading
from contextlib import asynccontextmanager, closing

import msgspec
import pytest

from telemetron.document import Queue
from telemetron.history import queries, recorder
from telemetron.history.archive import MEMORY, Archive, GoneError
from telemetron.history.history import BusyError, History, merged
from telemetron.history.limits import HistoryLimits
from telemetron.history.queries import Asked
from telemetron.store.store import Publication, Store


class System:
    """A store, and the history of it."""

    def __init__(self, path=None, **limits):
        self.store = Store("test")
        self.history = History(self.store, HistoryLimits(**limits), path and str(path))
        self.source = self.store.add("kafka", "kafka")
        self.source.start(1000.0)

    def put(self, consumers, name="q"):
        queue = Queue(name=name, consumers=consumers)
        self.store.put(self.source, "queues", name, name, queue)
        self.store.flush()
        return f"{self.store.snapshot.epoch}.{self.store.snapshot.change.revision}"

    async def consumers(self, at):
        """Of the queue, in the past."""
        now = self.store.clock.now()
        past = await self.history.ask(lambda timeline: queries.snapshot(timeline, at, now))
        body = past.sections["queues"].rope.get("kafka/q/-")
        return msgspec.json.decode(body.body)["consumers"] if body else None

    def problems(self):
        return [problem.message for problem in self.store.sources["history"].problems.values()]

    async def written(self, at):
        """Until the file has that place."""
        async with asyncio.timeout(30):
            while await self.history.ask(lambda timeline: timeline.has_unwritten):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(path=None, **limits):
    others = set(threading.enumerate())
    system = System(path, **limits)
    system.history.start()
    (thread,) = [one for one in threading.enumerate() if one not in others]
    try:
        yield system
    finally:
        await system.history.stop()
        await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()


@asynccontextmanager
async def hanging(system):
    """The thread answers a question for as long as this lasts, and does nothing else."""
    free = threading.Event()
    asked = asyncio.create_task(system.history.ask(lambda _: free.wait(60)))
    await asyncio.sleep(0)
    yield
    free.set()
    await asked


async def until(true):
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_query_sees_everything_published_before_it():
    async with running() as system:
        places = [system.put(consumers) for consumers in range(50)]
        for consumers, place in enumerate(places):
            assert await system.consumers(place) == consumers


async def test_publications_before_the_start_are_recorded():
    system = System()
    place = system.put(7)
    system.history.start()
    assert await system.consumers(place) == 7
    await system.history.stop()


async def test_an_earlier_epoch_is_answered_from_the_file(tmp_path):
    path = tmp_path / "history.db"
    async with running(path) as system:
        old = [system.put(consumers) for consumers in range(5)]
    async with running(path) as system:
        now = system.put(9)
        await until(lambda: system.store.sources["history"].status == "ok")
        for consumers, place in enumerate(old):
            assert await system.consumers(place) == consumers
        asked = Asked(old[0], now, measures="none")
        clock = system.store.clock.now
        found = await system.history.ask(lambda timeline: queries.changes(timeline, asked, clock()))
        answer = msgspec.json.decode(found.body)
        assert not answer["complete"]
        assert answer["starting"] == ["kafka"]
        (change,) = [one for one in answer["changes"] if one["section"] == "queues"]
        assert change["fields"] == {"consumers": {"old": 0, "new": 9}}


async def test_the_file_is_written_while_it_runs(tmp_path):
    path = tmp_path / "history.db"
    async with running(path) as system:
        place = system.put(3)
        await until(lambda: system.store.sources["history"].status == "ok")
        await system.written(place)
        async with running(path) as other:
            other.put(1)
            await until(lambda: other.store.sources["history"].status == "ok")
            assert await other.consumers(place) == 3


@pytest.mark.parametrize("content", ["notes " * 1000, "SQLite format 3\0" + "x" * 10_000])
async def test_another_file_is_reported_and_left_alone(tmp_path, content):
    path = tmp_path / "history.db"
    path.write_text(content)
    async with running(path) as system:
        place = system.put(3)
        await until(system.problems)
        assert "database" in system.problems()[0] or "file" in system.problems()[0]
        assert await system.consumers(place) == 3
    assert path.read_text() == content


async def test_a_missing_folder_is_reported_until_it_exists(tmp_path):
    path = tmp_path / "later" / "history.db"
    async with running(path, retry_seconds=0.05) as system:
        place = system.put(3)
        await until(system.problems)
        path.parent.mkdir()
        await until(lambda: not system.problems())
        assert system.store.sources["history"].status == "ok"
        system.put(4)
    async with running(path) as system:
        with pytest.raises(GoneError):
            # It was before the file was; the present state is in it.
            await system.consumers(place.rpartition(".")[0] + ".1")


async def test_a_full_disk_is_reported_and_old_places_still_answer(tmp_path, monkeypatch):
    full = False
    append = Archive.append

    def append_if_room(archive, steps):
        if full and archive.path != MEMORY:
            raise sqlite3.OperationalError("database or disk is full")
        append(archive, steps)

    monkeypatch.setattr(Archive, "append", append_if_room)
    path = tmp_path / "history.db"
    async with running(path, retry_seconds=0.05) as system:
        first = system.put(1)
        await until(lambda: system.store.sources["history"].status == "ok")
        await system.written(first)
        full = True
        places = [system.put(n, name="other") for n in range(300)]
        await until(system.problems)
        assert "full" in system.problems()[0]
        assert await system.consumers(first) == 1
        full = False
        await until(lambda: not system.problems())
        await system.written(places[-1])
    async with running(path) as system:
        await until(lambda: system.store.sources["history"].status == "ok")
        assert await system.consumers(first) == 1
        assert await system.consumers(places[-1]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to all files")
async def test_a_readonly_file_is_reported(tmp_path):
    path = tmp_path / "history.db"
    async with running(path) as system:
        system.put(1)
    path.chmod(stat.S_IRUSR)
    async with running(path) as system:
        await until(system.problems)
        assert "readonly" in system.problems()[0]


async def test_a_failing_query_does_not_affect_others():
    def fail(timeline):
        raise LookupError("no")

    async with running() as system:
        with pytest.raises(LookupError):
            await system.history.ask(fail)
        assert await system.consumers(system.put(1)) == 1


async def test_a_query_times_out():
    async with running() as system:
        free = threading.Event()
        hanging = asyncio.create_task(system.history.ask(lambda _: free.wait(60), timeout=60))
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="did not answer in time"):
            await system.history.ask(lambda timeline: timeline.tip, timeout=0.05)
        free.set()
        assert await hanging


async def test_the_number_of_queries_is_bounded():
    async with running(queries=2) as system:
        free = threading.Event()
        asked = [asyncio.create_task(system.history.ask(lambda _: free.wait(60))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await system.history.ask(lambda timeline: timeline.tip)
        free.set()
        await asyncio.gather(*asked)


async def test_a_long_backlog_is_merged():
    async with running(backlog=5) as system:
        async with hanging(system):
            places = [system.put(n) for n in range(20)]
        assert await system.consumers(places[-1]) == 19
        assert await system.consumers(places[0]) == 0
        with pytest.raises(GoneError):
            await system.consumers(places[-3])


async def test_a_backlog_is_recorded_without_a_query():
    async with running(backlog=2, drain_seconds=0.01) as system:
        told = []
        system.history.listeners.append(told.append)
        async with hanging(system):
            last = [system.put(n) for n in range(10)][-1]
            await asyncio.sleep(0.05)
        await until(lambda: told and str(told[-1]) == last)


def test_a_merged_publication_has_the_changes_of_both():
    snapshot = object()
    one = Publication(snapshot, {"agents": {"a": True, "b": False}}, 1)
    two = Publication(snapshot, {"agents": {"a": False, "c": True}, "queues": {"q": False}}, 2)
    assert merged(one, two).changed == {
        "agents": {"a": True, "b": False, "c": True},
        "queues": {"q": False},
    }
    assert merged(None, two) is two


async def test_a_stopped_history_no_longer_watches_the_store():
    async with running() as system:
        system.put(1)
    assert system.store.watchers == []
    with pytest.raises(BusyError):
        await system.history.ask(lambda timeline: timeline.tip)


async def test_a_large_backlog_is_merged():
    async with running(backlog_bytes=1) as system:
        await system.consumers(system.put(0))
        async with hanging(system):
            places = [system.put(n) for n in range(1, 20)]
        assert await system.consumers(places[-1]) == 19
        assert await system.consumers(places[0]) == 1
        with pytest.raises(GoneError):
            await system.consumers(places[-3])


async def test_an_abandoned_query_is_skipped_but_counts_until_then():
    asked = []
    async with running(queries=2) as system:
        async with hanging(system):
            with pytest.raises(BusyError, match="in time"):
                await system.history.ask(asked.append, timeout=0.05)
            with pytest.raises(BusyError, match="cannot answer now"):
                await system.history.ask(asked.append)
        assert await system.consumers(system.put(1)) == 1
        assert asked == []


# bugs of ours


def broken(*_):
    raise KeyError("a bug")


@pytest.mark.parametrize("name", [None, "history.db"])
async def test_recording_restarts_after_a_bug(tmp_path, monkeypatch, name):
    async with running(name and tmp_path / name) as system:
        first = system.put(1)
        assert await system.consumers(first) == 1
        with monkeypatch.context() as patched:
            patched.setattr(recorder, "difference", broken)
            told = []
            system.history.listeners.append(told.append)
            system.put(2)
            await until(lambda: "history" in system.store.sources and system.problems())
            await until(lambda: told and told[-1].revision == system.store.snapshot.change.revision)
        last = system.put(3)
        assert [await system.consumers(place) for place in (first, last)] == [1, 3]
        assert "KeyError in" in system.problems()[0]
        await until(lambda: system.store.sources["history"].status == "ok")


async def test_the_problem_of_a_bug_ends(monkeypatch):
    async with running(failed_seconds=0.2) as system:
        system.put(1)
        with monkeypatch.context() as patched:
            patched.setattr(recorder, "difference", broken)
            for consumers in (2, 3):
                system.put(consumers)
                await until(lambda: "history" in system.store.sources and system.problems())
        await until(lambda: not system.problems())


# damage


def batches(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT count(*), max(id) FROM batches").fetchone()


async def test_a_file_found_damaged_is_no_longer_written(tmp_path):
    path = tmp_path / "history.db"
    async with running(path) as system:
        old = system.put(1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE batches SET steps = x'00'")
        database.commit()
    async with running(path, retry_seconds=0.05) as system:
        await until(lambda: system.store.sources["history"].status == "ok")
        with pytest.raises(BusyError):
            await system.consumers(old)
        await until(system.problems)
        kept = batches(path)
        place = system.put(2)
        await asyncio.sleep(0.3)
        assert await system.consumers(place) == 2
        assert "not used again" in system.problems()[0]
    assert batches(path) == kept


async def test_a_damaged_file_is_opened_once(tmp_path, monkeypatch):
    path = tmp_path / "history.db"
    async with running(path) as system:
        for consumers in range(300):
            system.put(consumers)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = b"\xa5" * (len(raw) - len(raw) // 2)
    path.write_bytes(raw)
    opened = []
    prepare = Archive._prepare

    def counted(archive):
        if archive.path != MEMORY:
            opened.append(archive)
        prepare(archive)

    monkeypatch.setattr(Archive, "_prepare", counted)
    async with running(path, retry_seconds=0.05) as system:
        await until(system.problems)
        await asyncio.sleep(0.3)
        assert len(opened) == 1
    assert path.read_bytes() == bytes(raw)
