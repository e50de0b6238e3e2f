"""Snapshots: what is sent of one revision."""

from datetime import UTC, datetime

import msgspec
import pytest

from telemetron.document import SCHEMA_VERSION, Queue
from telemetron.store.rope import CHUNK_BYTES
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Store
from telemetron.testing import FakeClock

SECTIONS = ("agents", "litellm", "queues", "workload")


class System:
    """A store with one source that puts queues."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Store("sys", self.clock)
        self.source = self.store.add("kafka", "kafka")
        self.source.start(10)
        self.store.flush()

    def put(self, name: str, **fields: object) -> Snapshot:
        """One queue more; each at a time of its own."""
        self.clock.advance(1)
        self.store.put(self.source, "queues", name, name, Queue(name=name, **fields))
        self.store.flush()
        return self.store.snapshot


@pytest.fixture
def system() -> System:
    return System()


def shown(snapshot: Snapshot, *sections: str, key: str | None = None) -> dict:
    return msgspec.json.decode(b"".join(snapshot.chunks(sections, key)))


def test_an_empty_system_has_every_section() -> None:
    snapshot = Store("sys", FakeClock()).snapshot
    assert shown(snapshot, *SECTIONS) == {
        "id": "sys",
        "schema_version": SCHEMA_VERSION,
        "epoch": snapshot.epoch,
        "revision": 1,
        "started_at": "2030-01-01T00:00:00Z",
        "changed_at": "2030-01-01T00:00:00Z",
        "sources": [],
        **{section: [] for section in SECTIONS},
    }


def test_unrequested_sections_are_absent(system: System) -> None:
    system.put("q")
    document = shown(system.store.snapshot, "queues", "agents")
    assert list(document)[6:] == ["sources", "queues", "agents"]
    assert "agents" not in shown(system.store.snapshot, "queues")
    assert list(shown(system.store.snapshot))[6:] == ["sources"]
    assert list(shown(system.store.snapshot, "sources"))[6:] == ["sources"]


def test_a_view_has_the_revision_of_its_last_change(system: System) -> None:
    before = system.put("q").change
    assert before.at == datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC)
    now = system.put("q", partitions=2)
    assert now.change.revision == before.revision + 1
    assert shown(now, "agents")["revision"] == before.revision  # then its source's row changed
    assert shown(now, "queues")["revision"] == now.change.revision
    assert shown(now, "queues")["changed_at"] == "2030-01-01T00:00:02Z"


def test_one_entity(system: System) -> None:
    system.put("other")
    key = "kafka/q~1one/-"
    alone = shown(system.put("q/one"), "queues", key=key)
    assert [queue["key"] for queue in alone["queues"]] == [key]
    assert [row["key"] for row in alone["sources"]] == ["kafka"]
    place = alone["revision"]
    later = system.put("other", partitions=5)
    assert shown(later, "queues", key=key)["revision"] == place < later.change.revision


def test_one_source(system: System) -> None:
    system.store.add("other", "other")
    system.store.flush()
    alone = shown(system.store.snapshot, "sources", key="kafka")
    assert [row["key"] for row in alone["sources"]] == ["kafka"]


def test_no_such_entity(system: System) -> None:
    snapshot = system.put("q")
    assert snapshot.change_of(["queues"], "nothing") is None
    with pytest.raises(KeyError):
        snapshot.chunks(["queues"], "nothing")


def test_changes_of_state_and_measures_are_distinguished(system: System) -> None:
    state = system.put("q").change_of(["queues"])
    assert state is not None
    assert state.state_revision == state.revision
    measures = system.put("q", depth=5).change_of(["queues"])
    assert measures is not None
    assert (measures.revision, measures.state_revision) == (state.revision + 1, state.revision)


def test_large_chunks_are_shared_between_revisions(system: System) -> None:
    text = "x" * 4000
    for at in range(8 * CHUNK_BYTES // 4000):
        name = f"{at:04}"
        queue = Queue(name=name, group_state=text)
        system.store.put(system.source, "queues", name, name, queue)
    system.store.flush()
    old = system.store.snapshot.chunks(SECTIONS)
    new = system.put("9999").chunks(SECTIONS)
    large = {id(chunk) for chunk in old if len(chunk) > CHUNK_BYTES // 2}
    assert len(large) >= 2
    assert len(large - {id(chunk) for chunk in new}) <= 1
