"""The timeline: holes, limits, files and restarts that the state machine does not reach."""

import sqlite3
from datetime import datetime, timedelta
from random import Random

import msgspec
import pytest

from telemetron.document import PendingTask, Queue
from telemetron.history import queries
from telemetron.history.archive import ArchiveError, GoneError
from telemetron.history.history import merged
from telemetron.history.place import milliseconds, parse
from tests.telemetron.history.system import FORGETFUL, System, locked, ticked


def test_a_time_between_epochs_has_no_state(tmp_path):
    first = System(tmp_path / "history.db")
    first.put(1)
    first.write()
    first.clock.advance(60)
    first.write()  # nothing new, but it lives
    first.close()
    first.clock.advance(3600)
    second = System(tmp_path / "history.db", first.clock)
    now = second.clock.now()
    lived, dead = (now - timedelta(minutes=minutes) for minutes in (60.2, 30))
    past = queries.snapshot(second.timeline, lived.isoformat(), now)
    assert past.sections["queues"].rope.get("kafka/q/-")
    with pytest.raises(GoneError, match="Telemetron was not running then"):
        queries.snapshot(second.timeline, dead.isoformat(), now)
    # What changed since then is compared with what was known last, and says that it is not all.
    assert not second.changes(since=dead.isoformat())["complete"]
    second.close()


def test_a_file_that_was_not_written_for_long_gets_a_hole(limited):
    system = limited(unwritten_weight=5)
    first = system.put(0)
    system.write()
    lost = [system.put(consumers) for consumers in range(1, 10)][4]
    system.write()
    after = system.put(10)
    system.write()
    for place, consumers in ((first, 0), (after, 10)):
        body = system.file.state(parse(place, system.clock.now()))["queues", "kafka/q/-"]
        assert msgspec.json.decode(body)["consumers"] == consumers
    with pytest.raises(GoneError):
        system.file.find(parse(lost, system.clock.now()))


def test_a_time_in_a_hole_of_the_file_has_no_state_and_incomplete_changes(tmp_path):
    system = System(tmp_path / "history.db", unwritten_weight=5, **FORGETFUL)
    kept = ticked(system, 1)
    system.write()
    lost = ticked(system, *range(2, 10))
    system.write()
    after = ticked(system, 10)
    system.write()
    ticked(system, *range(11, 20))
    system.write()

    def check(system):
        assert [system.at(kept), system.at(after)] == [1, 10]
        for time in (kept + timedelta(seconds=0.5), lost - timedelta(seconds=3)):
            with pytest.raises(GoneError):
                system.at(time)
            # Changes begin before the hole, so that none after the time is left out.
            answer = system.changes(since=time.isoformat())
            assert not answer["complete"]
            assert datetime.fromisoformat(answer["from_at"]) <= kept
            assert not system.changes(until=time.isoformat())["complete"]

    check(system)
    system.close()
    system = System(tmp_path / "history.db", system.clock)
    check(system)
    system.close()


def test_steps_that_memory_dropped_before_they_were_written_are_gone(tmp_path):
    system = System(tmp_path / "history.db", **FORGETFUL)
    kept = ticked(system, 1)
    system.write()
    lost = ticked(system, 2)
    ticked(system, *range(3, 20))
    assert system.at(kept) == 1
    with pytest.raises(GoneError):
        system.at(lost)
    system.write()
    assert system.at(lost) == 2
    system.close()


@pytest.mark.parametrize("later", [0, 20])
def test_a_time_between_merged_publications_is_refused(limited, later):
    system = limited(recent_weight=10)
    before = ticked(system, 1)
    publications = []
    system.store.watchers[:] = [publications.append]
    for consumers in (2, 3, 4):
        system.clock.advance(1)
        queue = Queue(name="q", consumers=consumers)
        system.store.put(system.source, "queues", "q", "q", queue)
        system.store.flush()
    for publication in publications[1:]:
        publications[0] = merged(publications[0], publication)
    system.published(publications[0])
    system.store.watchers[:] = [system.published]
    now = system.clock.now()
    ticked(system, *range(5, 5 + later))
    assert [system.at(before), system.at(now)] == [1, 4]
    with pytest.raises(GoneError):
        system.at(now - timedelta(seconds=1.5))


def test_a_failed_write_of_the_beginning_is_retried(limited):
    system = limited(unwritten_weight=5, busy_seconds=0.0)
    for consumers in range(10):
        system.put(consumers)
    with locked(system.path), pytest.raises(sqlite3.OperationalError):
        system.write()
    assert system.timeline.has_unwritten
    place = system.put(13)
    system.write()
    later = system.put(14)
    system.write()
    for at, consumers in ((place, 13), (later, 14)):
        body = system.file.state(parse(at, system.clock.now()))["queues", "kafka/q/-"]
        assert msgspec.json.decode(body)["consumers"] == consumers


def test_unwritten_steps_are_bounded_in_bytes(limited):
    system = limited(unwritten_bytes=2_000)
    system.write()
    lost = [system.put(consumers) for consumers in range(20)][10]
    system.write()
    with pytest.raises(GoneError):
        system.file.find(parse(lost, system.clock.now()))


def test_a_file_that_is_opened_again_gets_a_hole(system):
    ticked(system, 1)
    system.write()
    lost = ticked(system, 2)
    system.file.close()
    system.timeline.file = None
    ticked(system, 3)
    system.open()
    last = ticked(system, 4)
    system.write()
    with pytest.raises(GoneError):
        system.file.find_time(milliseconds(lost))
    body = system.file.state(system.file.find_time(milliseconds(last)).place)["queues", "kafka/q/-"]
    assert msgspec.json.decode(body)["consumers"] == 4


def test_a_restart_keeps_earlier_places_and_leaves_a_hole(system):
    before = system.put(1)
    time = system.clock.now() + timedelta(seconds=1)
    system.write()
    system.clock.advance(5)
    system.timeline.restart(system.clock.monotonic(), milliseconds(system.clock.now()))
    place = system.put(2)
    system.write()
    for name, consumers in ((before, 1), (place, 2)):
        past = queries.snapshot(system.timeline, name, system.clock.now())
        bodies = (
            past.sections["queues"].rope.get("kafka/q/-").body,
            system.file.state(parse(name, system.clock.now()))["queues", "kafka/q/-"],
        )
        assert [msgspec.json.decode(body)["consumers"] for body in bodies] == [consumers] * 2
    with pytest.raises(GoneError):
        system.at(time)
    assert not system.history()["complete"]


def test_measures_recorded_before_a_waiting_publication_hide_no_place(tmp_path):
    """While a question is answered publications wait, and the measures that are due come first."""
    system = System(tmp_path / "history.db", recent_weight=3)
    waiting = []

    def put(consumers, depth):
        queue = Queue(name="q", consumers=consumers, depth=depth)
        system.store.put(system.source, "queues", "q", "q", queue)
        system.store.flush()

    put(1, 1)
    system.clock.advance(9)
    put(1, 2)
    system.at(system.clock.now() - timedelta(seconds=9))
    system.write()
    system.store.watchers[:] = [waiting.append]
    system.clock.advance(1)
    put(2, 2)
    time = system.clock.now() + timedelta(seconds=1)
    system.clock.advance(4)
    for _ in system.timeline.record_due(system.clock.monotonic(), milliseconds(system.clock.now())):
        pass
    for publication in waiting:
        system.published(publication)
    system.store.watchers[:] = [system.published]
    assert system.at(time) == 2
    ticked(system, *range(3, 20))
    assert system.at(time) == 2
    system.close()


@pytest.mark.parametrize("is_open", [False, True])
def test_repeated_restarts_stay_within_the_limits(tmp_path, is_open):
    limits = {"memory_bytes": 100_000, "file_bytes": 100_000}
    system = System(tmp_path / "history.db", is_open=is_open, **limits)
    random = Random(1)
    for number in range(300):
        name = f"q{number}"
        part = Queue(name=name, consumer_group=random.randbytes(60).hex())
        system.store.put(system.source, "queues", name, name, part)
    system.store.flush()
    for _ in range(60):
        system.clock.advance(1)
        system.timeline.restart(system.clock.monotonic(), milliseconds(system.clock.now()))
        system.write()
    assert system.timeline.bytes_used() < 200_000
    assert not system.file or system.file.bytes_used() < 200_000
    system.close()


def test_an_epoch_deleted_by_another_process_is_not_confused(tmp_path):
    """Two processes with one file: the quiet one's past goes, and no wrong answer comes."""
    busy = System(tmp_path / "history.db", file_bytes=1, keyframe_bytes=1)
    quiet = System(busy.path, keyframe_bytes=1)
    quiet.put(1)
    quiet.write()
    for consumers in range(60):
        ticked(busy, consumers)
        busy.write()
    busy.close()
    history = quiet.history()
    assert (history["consumers"], history["complete"]) == ([1], False)
    quiet.clock.advance(1000)
    quiet.put(2)
    with pytest.raises(ArchiveError, match="another process"):
        quiet.write()
    quiet.file.close()
    quiet.timeline.file = None
    quiet.open()
    time = ticked(quiet, *range(3, 10))
    ticked(quiet, 10)
    third = quiet.restarted()
    ticked(third, *range(100, 200))
    third.write()
    assert third.at(time) == 9
    third.close()


def test_the_oldest_place_may_be_older_than_the_file(tmp_path):
    system = System(tmp_path / "history.db", is_open=False)
    system.put(1)
    system.open()
    assert system.timeline.oldest() == (system.timeline.tip.epoch, 1, 0)
    system.close()


def put_task(system, id, offset):
    part = Queue(name="q", consumers=offset, tasks=[PendingTask(id=id, offset=offset)])
    system.store.put(system.source, "queues", "q", "q", part)
    system.store.flush()


def found(timeline, id, newest=16, oldest=4):
    entries = timeline.task_entries(id, newest, oldest)
    return [one and one.place.revision for one in entries]


def test_the_entries_of_a_task_are_in_memory_and_in_the_file(tmp_path):
    system = System(tmp_path / "history.db")
    put_task(system, "t", 1)
    put_task(system, "u", 2)
    first = system.timeline.tip.revision - 1
    assert found(system.timeline, "t") == [first + 1, first]
    assert found(system.timeline, "v") == []
    assert system.timeline.is_whole()
    later = system.restarted()
    assert found(later.timeline, "t") == [first + 1, first]
    put_task(later, "t", 1)
    assert found(later.timeline, "t") == [later.timeline.tip.revision, first + 1, first]
    assert later.timeline.is_whole()
    later.close()


def test_few_batches_of_a_task_are_read(tmp_path):
    system = System(tmp_path / "history.db", is_open=False, open_weight=2)
    for number in range(1, 13):
        put_task(system, "t", number)
    newest_first = found(system.timeline, "t", newest=2, oldest=1)
    assert newest_first[0] == system.timeline.tip.revision
    assert newest_first.count(None) == 1
    assert len(newest_first) < len(found(system.timeline, "t"))
    system.close()


def test_a_history_that_dropped_steps_is_not_whole(tmp_path):
    system = System(tmp_path / "history.db", is_open=False, **FORGETFUL)
    for number in range(60):
        put_task(system, f"t-{number}", number)
    assert not system.timeline.is_whole()
    assert found(system.timeline, "t-1") == []
    assert found(system.timeline, "t-59") == [system.timeline.tip.revision]
    rows = system.timeline.bytes_used()
    for number in range(60, 300):
        put_task(system, f"t-{number}", number)
    assert system.timeline.bytes_used() < 3 * rows  # the index is dropped with its batches
    system.close()


def test_a_file_of_the_first_release_has_no_index_of_tasks(tmp_path):
    system = System(tmp_path / "history.db")
    put_task(system, "t", 1)
    system.write()
    system.close()
    database = sqlite3.connect(tmp_path / "history.db")
    database.execute("DROP TABLE tasks")
    database.commit()
    database.close()
    later = System(tmp_path / "history.db", system.clock)
    assert found(later.timeline, "t") == []
    assert not later.timeline.is_whole()
    later.close()
