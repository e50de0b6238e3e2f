"""Answers of the timeline that the state machine does not come by."""

from datetime import timedelta

import msgspec
import pytest

from telemetron import timeline as module
from telemetron.archive import Archive, GoneError
from telemetron.delta import shapes
from telemetron.document import Queue
from telemetron.place import milliseconds
from telemetron.store import Store
from telemetron.testing import FakeClock
from telemetron.timeline import Asked, Limits, Timeline


class System:
    """A store and its timeline, with a file."""

    def __init__(self, path, clock=None):
        self.clock = clock or FakeClock()
        self.store = Store("test", self.clock)
        snapshot = self.store.snapshot
        self.timeline = Timeline(shapes(), snapshot, Limits(), lambda name: ())
        started = milliseconds(snapshot.started_at)
        self.file = Archive(str(path), "test", snapshot.epoch, started)
        self.timeline.open_file(self.file)
        self.store.watchers.append(self.published)
        self.source = self.store.add("kafka", "kafka")
        self.store.flush()

    def published(self, publication):
        for _ in self.timeline.record(publication, self.clock.monotonic()):
            pass

    def put(self, consumers, name="q"):
        part = Queue(name=name, consumers=consumers)
        self.store.put(self.source, "queues", name, name, part)
        self.store.flush()
        return str(self.timeline.tip)

    def write(self):
        self.timeline.write(milliseconds(self.clock.now()))

    def changes(self, **asked):
        body = self.timeline.changes(Asked(**asked), self.clock.now()).body
        return msgspec.json.decode(body)

    def close(self):
        self.file.close()
        self.timeline.close()


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
    past = second.timeline.snapshot(lived.isoformat(), now)
    assert past.faces["queues"].rope.get("kafka/q/-")
    with pytest.raises(GoneError, match="nobody observed the system then"):
        second.timeline.snapshot(dead.isoformat(), now)
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
        body = system.file.state(module.parse(place, system.clock.now()))["queues", "kafka/q/-"]
        assert msgspec.json.decode(body)["consumers"] == consumers
    with pytest.raises(GoneError):
        system.file.find(module.parse(lost, system.clock.now()))


def test_an_answer_is_bounded_in_bytes(system, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 2000)
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
        times.append(module.moment(milliseconds(system.clock.now())))
    answer = system.changes(since=places[0], until=places[1], sections=("queues",))
    at = msgspec.convert(answer["changes"][0]["at"], type=type(times[1]))
    assert at == times[1]


def test_a_life_without_a_file_is_from_memory():
    clock = FakeClock()
    store = Store("test", clock)
    timeline = Timeline(shapes(), store.snapshot, Limits(), lambda name: ())
    with pytest.raises(LookupError):
        timeline.life(("queues", "q"), None, "levels", 10, clock.now())
    assert timeline.bytes_used() > 0
    timeline.close()
