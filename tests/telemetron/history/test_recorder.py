"""What of each publication is recorded, and when."""

import json

import pytest

from telemetron.document import ModelDeployment, Queue
from telemetron.history.delta import shapes
from telemetron.history.place import milliseconds
from telemetron.history.recorder import Recorder
from telemetron.store.store import Store
from telemetron.testing import FakeClock


class System:
    """A store that a recorder listens to."""

    def __init__(self):
        self.clock = FakeClock()
        self.store = Store("test", self.clock)
        self.recorder = Recorder(shapes(), self.store.snapshot)
        self.steps = []
        self.store.watchers.append(self.published)
        self.source = self.store.add("kafka", "kafka")
        self.store.flush()
        self.steps.clear()

    def published(self, publication):
        for _ in self.recorder.record(publication, self.clock.monotonic()):
            pass
        self.steps.append(self.recorder.last)

    def put(self, **fields):
        self.store.put(self.source, "queues", "q", "q", Queue(name="q", **fields))
        self.store.flush()

    def late(self):
        at = milliseconds(self.clock.now())
        before = self.recorder.last
        for _ in self.recorder.record_due(self.clock.monotonic(), at):
            pass
        if self.recorder.last is before:
            return False
        self.steps.append(self.recorder.last)
        return any(entry.section == "queues" for entry in self.recorder.last.entries)

    def deltas(self):
        """What was recorded of the queue, without stamps; nothing is forgotten by asking."""
        entries = [entry for step in self.steps for entry in step.entries if entry.key != "kafka"]
        return [
            {name: one for name, one in entry.delta.items() if name != "updated_at"}
            if entry.delta
            else entry.delta
            for entry in entries
        ]


@pytest.fixture
def system():
    return System()


def test_every_change_of_state_is_recorded(system):
    for consumers in range(5):
        system.put(consumers=consumers)
    assert system.deltas() == [None, *({"consumers": [n, n + 1]} for n in range(4))]


def test_levels_are_recorded_at_most_every_ten_seconds(system):
    system.put(depth=0)
    system.clock.advance(10)
    for depth in (1, 2, 3):
        system.put(depth=depth)
        system.clock.advance(1)
    assert system.deltas() == [None, {"depth": [0, 1]}]
    assert not system.late()
    system.clock.advance(6.9)
    assert not system.late()
    system.clock.advance(0.1)
    assert system.late()
    assert system.deltas()[2:] == [{"depth": [1, 3]}]


def test_due_measures_are_a_step_of_their_own(system):
    system.put(depth=0)
    system.put(depth=5)
    at = system.steps[-1].place
    system.clock.advance(10)
    assert system.late()
    assert system.steps[-1].place == (at[0], at[1] + 1)
    assert system.steps[-1].follows(at)
    assert system.steps[-1].at == milliseconds(system.clock.now())


def test_samples_are_recorded_at_most_every_minute(system):
    times = [system.clock.now()]
    system.put(measured_at=times[0])
    for _ in range(12):
        system.clock.advance(10)
        system.put(measured_at=system.clock.now())
        system.late()
    recorded = [delta["measured_at"][1] for delta in system.deltas()[1:]]
    assert recorded == ["2030-01-01T00:01:00Z", "2030-01-01T00:02:00Z"]


def test_measures_are_recorded_with_each_change_of_state(system):
    system.put(depth=0, consumers=1)
    system.put(depth=7, consumers=2)
    assert system.deltas() == [None, {"depth": [0, 7], "consumers": [1, 2]}]
    system.clock.advance(60)
    assert not system.late()


def times(system):
    return [entry.times for entry in system.steps[-1].entries if entry.section == "queues"]


def test_due_measures_have_the_time_of_their_change(system):
    system.put(depth=0, lag=0)
    published = []
    for number in (1, 2):
        system.clock.advance(1)
        system.put(depth=number, lag=min(number, 1))
        published.append(milliseconds(system.clock.now()))
    system.clock.advance(8)
    assert system.late()
    assert system.deltas()[1:] == [{"depth": [0, 2], "lag": [0, 1]}]
    assert times(system) == [{"depth": published[1], "lag": published[0]}]


def test_pending_measures_keep_their_time_when_state_changes(system):
    system.put(depth=0, lag=0)
    system.clock.advance(1)
    system.put(depth=1, lag=1)
    published = milliseconds(system.clock.now())
    system.clock.advance(1)
    system.put(depth=1, lag=2, consumers=1)
    assert times(system) == [{"depth": published}]
    system.clock.advance(60)
    assert not system.late()


def test_a_measure_that_returned_to_its_value_is_not_recorded(system):
    system.put(depth=0)
    system.put(depth=7)
    system.put(depth=0)
    system.clock.advance(10)
    assert not system.late()
    assert system.recorder.due is None


def test_a_removed_entity_has_nothing_due(system):
    system.put(depth=0)
    system.put(depth=7)
    system.store.remove(system.source, "queues", "q")
    system.store.flush()
    entry = next(entry for entry in system.steps[-1].entries if entry.section == "queues")
    assert json.loads(entry.old)["depth"] == 0  # as it was recorded
    assert entry.new is None
    system.clock.advance(10)
    assert not system.late()


def test_an_entity_added_and_removed_in_between_leaves_nothing(system):
    system.put(depth=0)
    system.store.remove(system.source, "queues", "q")
    system.put(depth=0)
    assert system.deltas() == [None]


def test_a_revision_without_entries_is_a_step(system):
    system.put(depth=0)
    system.put(depth=1)
    assert [step.entries == [] for step in system.steps][-1]
    assert system.steps[-1].place == (system.store.snapshot.change.revision, 0)


def test_complete_bodies_are_shared_with_the_document(system):
    system.put(consumers=1)
    fragment = system.store.snapshot.sections["queues"].rope.get("kafka/q/-")
    assert system.recorder.bodies["queues", "kafka/q/-"] is fragment.body


def test_equal_values_written_differently_are_no_change(system):
    for value in (-0.0, 0.0):
        system.clock.advance(60)
        system.store.remove(system.source, "litellm", "m")
        model = ModelDeployment(id="m", model="m", tpm=value)
        system.store.put(system.source, "litellm", "m", "m", model)
        system.store.flush()
    revision = system.store.snapshot.change.revision
    assert [step.revision for step in system.steps] == [revision - 1, revision]
    assert b"-0.0" not in system.store.snapshot.sections["litellm"].rope.get("kafka/m").body
    assert system.deltas() == [None]
    assert system.recorder.due is None


def test_a_restart_takes_the_current_entities(system):
    system.put(depth=0)
    system.put(depth=5)
    at = system.steps[-1].place
    system.clock.advance(1)
    system.recorder.restart(system.clock.monotonic(), milliseconds(system.clock.now()))
    assert system.recorder.last.place == (at[0], at[1] + 1)
    assert json.loads(system.recorder.bodies["queues", "kafka/q/-"])["depth"] == 5
    assert system.recorder.due is None
