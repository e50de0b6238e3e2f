"""Answers of the timeline that the state machine does not come by."""

import sqlite3
from datetime import timedelta
from random import Random

import msgspec
import pytest

from telemetron.agents import AgentPart
from telemetron.document import Instance, Queue
from telemetron.history import archive as archives
from telemetron.history import fold
from telemetron.history import timeline as module
from telemetron.history.archive import Archive, ArchiveError, GoneError
from telemetron.history.delta import shapes
from telemetron.history.fold import Asked
from telemetron.history.history import merged
from telemetron.history.place import milliseconds, moment, parse
from telemetron.history.timeline import Limits, Timeline
from telemetron.store.store import Store
from telemetron.testing import FakeClock


class System:
    """A store and its timeline, with a file; where that is not open yet, `open` opens it."""

    def __init__(self, path, clock=None, limits=None, is_open=True):
        self.clock = clock or FakeClock()
        self.path = path
        self.store = Store("test", self.clock)
        snapshot = self.store.snapshot
        self.timeline = Timeline(shapes(), snapshot, limits or Limits(), lambda name: ())
        self.file = None
        if is_open:
            self.open()
        self.store.watchers.append(self.published)
        self.source = self.store.add("kafka", "kafka")
        self.store.flush()

    def published(self, publication):
        for _ in self.timeline.record(publication, self.clock.monotonic()):
            pass

    def open(self):
        snapshot = self.store.snapshot
        started = milliseconds(snapshot.started_at)
        self.file = Archive(str(self.path), "test", snapshot.epoch, started)
        self.timeline.open_file(self.file)

    def put(self, consumers, name="q"):
        part = Queue(name=name, consumers=consumers)
        self.store.put(self.source, "queues", name, name, part)
        self.store.flush()
        return str(self.timeline.tip)

    def write(self):
        self.timeline.write(milliseconds(self.clock.now()))

    def changes(self, **asked):
        body = fold.changes(self.timeline, Asked(**asked), self.clock.now()).body
        return msgspec.json.decode(body)

    def life(self, key="kafka/q/-", before=None, limit=100):
        id = "queues", key
        body = fold.life(self.timeline, id, before, "levels", limit, self.clock.now())
        answer = msgspec.json.decode(body)
        answer["consumers"] = [
            one["new"]["consumers"] if "new" in one else one["fields"]["consumers"]["new"]
            for one in answer["changes"]
        ]
        return answer

    def at(self, time):
        """The consumers of the queue at that time."""
        past = fold.snapshot(self.timeline, time.isoformat(), self.clock.now())
        body = past.sections["queues"].rope.get("kafka/q/-").body
        return msgspec.json.decode(body)["consumers"]

    def close(self):
        if self.file:
            self.file.close()
        self.timeline.close()

    def restarted(self):
        """What comes a minute after this ended, with the same file."""
        self.write()
        self.close()
        self.clock.advance(60)
        return System(self.path, self.clock)


@pytest.fixture
def system(tmp_path):
    one = System(tmp_path / "history.db")
    yield one
    one.close()


def test_what_nobody_observed_is_not_guessed(tmp_path):
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
    past = fold.snapshot(second.timeline, lived.isoformat(), now)
    assert past.sections["queues"].rope.get("kafka/q/-")
    with pytest.raises(GoneError, match="nobody observed the system then"):
        fold.snapshot(second.timeline, dead.isoformat(), now)
    # What changed since then is compared with what was known last, and says that it is not all.
    assert not second.changes(since=dead.isoformat())["complete"]
    second.close()


def test_a_file_that_could_not_be_written_for_long_begins_anew(system, monkeypatch):
    monkeypatch.setattr(module, "UNWRITTEN_WEIGHT", 5)
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


def test_an_answer_is_bounded_in_bytes(system, monkeypatch):
    monkeypatch.setattr(fold, "MAX_ANSWER_BYTES", 2000)
    since = str(system.timeline.tip)
    for number in range(10):
        system.put(1, name=f"q{number}")
    answer = system.changes(since=since, sections=("queues",))
    assert 1 <= len(answer["changes"]) < 10
    assert answer["truncated"]
    assert f"after=queues%2Fkafka%2Fq{len(answer['changes']) - 1}%2F-" in answer["next"]


def test_places_in_the_wrong_order_are_told_in_the_right_one(system):
    one, two = system.put(1), system.put(2)
    answer = system.changes(since=two, until=one, sections=("queues",))
    assert (answer["from"], answer["to"]) == (one, two)
    assert answer["changes"][0]["fields"] == {"consumers": {"old": 1, "new": 2}}


def test_when_it_changed_is_told_for_the_past_too(system):
    places, times = [], []
    for consumers in range(3):
        system.clock.advance(5)
        places.append(system.put(consumers))
        times.append(moment(milliseconds(system.clock.now())))
    answer = system.changes(since=places[0], until=places[1], sections=("queues",))
    at = msgspec.convert(answer["changes"][0]["at"], type=type(times[1]))
    assert at == times[1]


def test_a_life_without_a_file_is_from_memory():
    clock = FakeClock()
    store = Store("test", clock)
    timeline = Timeline(shapes(), store.snapshot, Limits(), lambda name: ())
    with pytest.raises(LookupError):
        fold.life(timeline, ("queues", "q"), None, "levels", 10, clock.now())
    assert timeline.bytes_used() > 0
    timeline.close()


# holes


def ticked(system, *consumers):
    """Each put a second after the one before; the time of the last."""
    for number in consumers:
        system.clock.advance(1)
        system.put(number)
    return system.clock.now()


def forgetful(monkeypatch):
    """Limits with which the memory keeps next to nothing."""
    monkeypatch.setattr(module, "RECENT_WEIGHT", 3)
    monkeypatch.setattr(module, "OPEN_WEIGHT", 2)
    monkeypatch.setattr(archives, "KEYFRAME_BYTES", 1)
    return Limits(memory_bytes=1)


def test_a_time_in_a_hole_of_the_file_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "UNWRITTEN_WEIGHT", 5)
    limits = forgetful(monkeypatch)
    system = System(tmp_path / "history.db", limits=limits)
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
            with pytest.raises(GoneError):
                system.changes(since=time.isoformat())

    check(system)
    system.close()
    system = System(tmp_path / "history.db", system.clock)
    check(system)
    system.close()


def test_what_the_memory_forgot_before_it_was_written_is_gone(tmp_path, monkeypatch):
    system = System(tmp_path / "history.db", limits=forgetful(monkeypatch))
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
def test_a_time_among_publications_that_became_one_is_gone(system, monkeypatch, later):
    monkeypatch.setattr(module, "RECENT_WEIGHT", 10)
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


def test_a_beginning_that_fails_is_tried_until_it_is_in_the_file(system, monkeypatch):
    monkeypatch.setattr(module, "UNWRITTEN_WEIGHT", 5)
    monkeypatch.setattr(archives, "BUSY_SECONDS", 0.0)
    system.close()
    system = System(system.path, system.clock)
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
    system.close()


class locked:
    """A file that somebody else writes to."""

    def __init__(self, path):
        self.database = sqlite3.connect(path, isolation_level=None)

    def __enter__(self):
        self.database.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_):
        self.database.close()


def test_what_is_unwritten_is_bounded_in_bytes(system, monkeypatch):
    monkeypatch.setattr(module, "UNWRITTEN_BYTES", 2_000)
    system.write()
    lost = [system.put(consumers) for consumers in range(20)][10]
    system.write()
    with pytest.raises(GoneError):
        system.file.find(parse(lost, system.clock.now()))


def test_a_file_that_is_opened_again_begins_anew(system):
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


def test_after_a_failure_what_was_before_is_kept_and_what_lies_between_is_gone(system):
    before = system.put(1)
    time = system.clock.now() + timedelta(seconds=1)
    system.write()
    system.clock.advance(5)
    system.timeline.restart(system.clock.monotonic(), milliseconds(system.clock.now()))
    place = system.put(2)
    system.write()
    for name, consumers in ((before, 1), (place, 2)):
        past = fold.snapshot(system.timeline, name, system.clock.now())
        bodies = (
            past.sections["queues"].rope.get("kafka/q/-").body,
            system.file.state(parse(name, system.clock.now()))["queues", "kafka/q/-"],
        )
        assert [msgspec.json.decode(body)["consumers"] for body in bodies] == [consumers] * 2
    with pytest.raises(GoneError):
        system.at(time)
    assert not system.life()["complete"]


# lives


def test_a_life_is_told_from_memory_and_file(tmp_path, monkeypatch):
    first = System(tmp_path / "history.db")
    ticked(first, 1, 2)
    first.write()
    first.close()
    second = System(tmp_path / "history.db", first.clock, is_open=False)
    ticked(second, 7, 8)
    assert second.life()["consumers"] == [8, 7]
    assert second.life()["complete"]
    second.open()
    ticked(second, 9)
    life = second.life()
    assert life["consumers"] == [9, 8, 7, 2, 1]
    assert not life["complete"]  # nobody looked between the two epochs
    pages, before = [], None
    while True:
        page = second.life(before=before, limit=2)
        pages += page["consumers"]
        if not page["truncated"]:
            break
        before = page["changes"][-1]["place"]
    assert pages == [9, 8, 7, 2, 1]
    second.close()


def test_a_life_over_a_hole_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "UNWRITTEN_WEIGHT", 5)
    system = System(tmp_path / "history.db", limits=forgetful(monkeypatch))
    ticked(system, 1)
    system.write()
    ticked(system, *range(2, 30))
    before = system.life()
    assert before["consumers"][-1] == 1
    assert 5 not in before["consumers"]
    assert not before["complete"]
    system.write()
    ticked(system, *range(30, 60))
    system.write()
    after = system.life()
    assert after["consumers"][-1] == 1
    assert after["consumers"][0] == 59
    assert not after["complete"]
    assert system.life(limit=1)["complete"]
    system.close()


def test_a_life_is_told_though_the_file_cannot_be_written(system, monkeypatch):
    monkeypatch.setattr(archives, "BUSY_SECONDS", 0.0)
    system.close()
    system = System(system.path, system.clock)
    ticked(system, 1, 2)
    with locked(system.path):
        assert system.life()["consumers"][:2] == [2, 1]
    system.close()


# over a start


def beat(system, source, task):
    """An instance and its tasks, known to that source."""
    part = AgentPart(
        namespace="n",
        instance=Instance(id=task, status="active"),
        models=[task],
        tasks=[],
    )
    system.store.put(source, "agents", "a", task, part)
    system.store.flush()


def started_again(tmp_path, seen):
    """Of x and y another source than x's sees this after a start; and the place before it."""
    first = System(tmp_path / "history.db")
    others = first.store.add("other", "other")
    beat(first, first.source, "x")
    beat(first, others, "y")
    since = str(first.timeline.tip)
    second = first.restarted()
    second.source.start(1000.0)
    others = second.store.add("other", "other")
    others.start(1000.0)
    others.confirm()
    beat(second, others, seen)
    return second, since


def test_over_a_start_nothing_is_gone_that_nobody_looked_for(tmp_path):
    second, since = started_again(tmp_path, "y")
    answer = second.changes(since=since, sections=("agents",))
    assert answer["starting"] == ["kafka"]
    told = {path for change in answer["changes"] for path in change["fields"]}
    assert "instances/x" not in told
    assert "models" not in told
    second.source.confirm()
    second.store.flush()
    answer = second.changes(since=since, sections=("agents",))
    assert answer["starting"] == []
    (change,) = answer["changes"]
    assert change["fields"]["instances/x"].keys() == {"removed"}
    assert change["fields"]["models"] == {"old": ["x", "y"], "new": ["y"]}
    second.close()


def test_before_any_source_is_there_nothing_is_gone(tmp_path):
    first = System(tmp_path / "history.db")
    since = first.put(1)
    second = first.restarted()
    answer = second.changes(since=since, until=f"{second.timeline.tip.epoch}.1")
    assert answer["starting"] == ["kafka"]
    assert answer["changes"] == []
    second.close()


def test_over_a_start_a_list_that_has_news_tells_no_losses(tmp_path):
    second, since = started_again(tmp_path, "z")
    answer = second.changes(since=since, sections=("agents",))
    assert answer["starting"] == ["kafka"]
    (change,) = answer["changes"]
    assert change["fields"]["models"] == {"old": [], "new": ["z"]}
    second.close()


def earlier(first):
    """What starts after this ended, with the same file, when the clock is set back."""
    first.write()
    first.close()
    return System(first.path, FakeClock(first.clock.now() - timedelta(seconds=5)))


def test_a_start_with_the_clock_set_back_comes_after_what_was(tmp_path):
    first = System(tmp_path / "history.db")
    first.clock.advance(1)
    oldest = first.timeline.oldest()
    since = first.put(1)
    second = earlier(first)
    tip = second.put(7)
    second.write()
    answer = second.changes(since=since, sections=("queues",))
    assert (answer["from"], answer["to"]) == (since, tip)
    assert answer["changes"][0]["fields"]["consumers"] == {"old": 1, "new": 7}
    assert fold.after(second.timeline, Asked(since, sections=("queues",))).to == tip
    assert second.life()["consumers"] == [7, 1]
    assert second.life(before=tip)["consumers"] == [1]
    assert second.life(before=since)["consumers"] == []
    assert second.timeline.oldest() == oldest
    second.close()


def test_measures_that_are_recorded_before_what_waited_hide_nothing(tmp_path, monkeypatch):
    """While a question is answered publications wait, and the measures that are due come first."""
    monkeypatch.setattr(module, "RECENT_WEIGHT", 3)
    system = System(tmp_path / "history.db")
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
    for _ in system.timeline.late(system.clock.monotonic(), milliseconds(system.clock.now())):
        pass
    for publication in waiting:
        system.published(publication)
    system.store.watchers[:] = [system.published]
    assert system.at(time) == 2
    ticked(system, *range(3, 20))
    assert system.at(time) == 2
    system.close()


@pytest.mark.parametrize("is_open", [False, True])
def test_failures_again_and_again_stay_within_the_bounds(tmp_path, is_open):
    limits = Limits(memory_bytes=100_000, file_bytes=100_000)
    system = System(tmp_path / "history.db", limits=limits, is_open=is_open)
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


def test_a_life_before_a_time_has_what_happened_last_before_it(system):
    ticked(system, 1, 2, 3)
    system.clock.advance(10)
    time = system.clock.now()
    system.clock.advance(10)
    ticked(system, 4)
    assert system.life(before=time.isoformat())["consumers"] == [3, 2, 1]


def test_the_oldest_is_asked_for_after_what_is_too_much_was_forgotten(tmp_path, monkeypatch):
    limits = forgetful(monkeypatch)
    monkeypatch.setattr(module, "OPEN_WEIGHT", 1000)
    system = System(tmp_path / "history.db", limits=limits, is_open=False)
    ticked(system, *range(100))
    assert system.changes()["from"] == str(system.timeline.oldest())
    system.close()


def test_when_something_changed_is_asked_of_the_file_where_the_memory_has_forgotten_it(
    tmp_path, monkeypatch
):
    system = System(tmp_path / "history.db", limits=forgetful(monkeypatch))
    since = system.put(1)
    system.clock.advance(1)
    system.put(5, name="other")
    at = system.clock.now()
    system.write()
    ticked(system, *range(30))
    system.write()
    changes = {one["key"]: one for one in system.changes(since=since)["changes"]}
    assert changes["kafka/other/-"]["at"] == at.strftime("%Y-%m-%dT%H:%M:%SZ")
    system.close()


def test_what_another_process_has_forgotten_is_no_other_epochs(tmp_path, monkeypatch):
    """Two processes with one file: the quiet one's past goes, and no wrong answer comes."""
    monkeypatch.setattr(archives, "KEYFRAME_BYTES", 1)
    busy = System(tmp_path / "history.db", limits=Limits(file_bytes=1))
    quiet = System(busy.path)
    quiet.put(1)
    quiet.write()
    for consumers in range(60):
        ticked(busy, consumers)
        busy.write()
    busy.close()
    life = quiet.life()
    assert (life["consumers"], life["complete"]) == ([1], False)
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


def test_places_of_two_epochs_in_the_wrong_order_are_told_in_the_right_one(tmp_path):
    first = System(tmp_path / "history.db")
    one = first.put(1)
    second = first.restarted()
    two = second.put(2)
    answer = second.changes(since=two, until=one, sections=("queues",))
    assert (answer["from"], answer["to"]) == (one, two)
    second.close()


def test_the_oldest_is_that_of_the_memory_where_the_file_came_later(tmp_path):
    system = System(tmp_path / "history.db", is_open=False)
    system.put(1)
    system.open()
    assert system.timeline.oldest() == (system.timeline.tip.epoch, 1, 0)
    system.close()
