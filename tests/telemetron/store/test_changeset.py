"""Changesets: entities in, sections and their changes out."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace

from telemetron.document import Live, Queue, Workload
from telemetron.store.changeset import Changeset
from telemetron.store.measure import same_state
from telemetron.store.snapshot import SectionSnapshot, encode

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
QUEUE = Queue(key="k/q/-", source="k", name="q", depth=1)
STATE = same_state(Queue)
Sections = dict[str, SectionSnapshot]


def changeset(sections: Mapping[str, SectionSnapshot], revision: int) -> Changeset:
    return Changeset(sections, revision, NOON.replace(minute=revision))


def applied(staged: Changeset) -> Sections:
    steps = staged.apply(staged.changed())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def show(staged: Changeset, queue: Queue) -> None:
    staged.put("queues", queue, encode(queue), STATE)


@pytest.fixture
def sections() -> Sections:
    """What is published: one queue since revision 2."""
    staged = changeset({"queues": SectionSnapshot(), "agents": SectionSnapshot()}, 2)
    show(staged, QUEUE)
    return applied(staged)


def body(sections: Mapping[str, SectionSnapshot], key: str = QUEUE.key) -> Queue:
    fragment = sections["queues"].rope.get(key)
    assert fragment is not None
    return msgspec.json.decode(fragment.body, type=Queue)


def test_a_new_entity_is_stamped(sections: Sections) -> None:
    assert body(sections) == replace(QUEUE, updated_at=NOON.replace(minute=2))
    change = sections["queues"].change
    assert (change.revision, change.state_revision, change.at.minute) == (2, 2, 2)
    assert sections["agents"] == SectionSnapshot()


def test_an_equal_entity_changes_nothing(sections: Sections) -> None:
    staged = changeset(sections, 3)
    show(staged, QUEUE)
    assert staged.changed() == {}
    assert (applied(staged), staged.new_bytes) == (sections, 0)


def test_a_reverted_change_changes_nothing(sections: Sections) -> None:
    staged = changeset(sections, 3)
    show(staged, replace(QUEUE, partitions=5))
    staged.remove("queues", QUEUE.key)
    show(staged, QUEUE)
    assert staged.changed() == {}


def test_an_entity_removed_before_publication_changes_nothing(sections: Sections) -> None:
    staged = changeset(sections, 3)
    show(staged, replace(QUEUE, key="k/new/-"))
    staged.remove("queues", "k/new/-")
    assert staged.changed() == {}


def test_a_change_of_state_moves_updated_at(sections: Sections) -> None:
    staged = changeset(sections, 3)
    new = replace(QUEUE, partitions=5, depth=2)
    show(staged, new)
    assert staged.changed() == {"queues": {QUEUE.key: True}}
    assert staged.new_bytes == len(encode(new))
    now = applied(staged)
    assert body(now) == replace(new, updated_at=NOON.replace(minute=3))
    assert body(sections).partitions is None


def test_a_change_of_measures_keeps_updated_at(sections: Sections) -> None:
    staged = changeset(sections, 3)
    show(staged, replace(QUEUE, depth=2))
    assert staged.changed() == {"queues": {QUEUE.key: False}}
    now = applied(staged)
    assert body(now) == replace(QUEUE, depth=2, updated_at=NOON.replace(minute=2))
    for change in (now["queues"].change, now["queues"].rope.get(QUEUE.key).change):
        assert (change.revision, change.state_revision, change.at.minute) == (3, 2, 3)


def test_a_removal_is_a_change_of_state(sections: Sections) -> None:
    staged = changeset(sections, 3)
    staged.remove("queues", QUEUE.key)
    assert staged.changed() == {"queues": {QUEUE.key: True}}
    now = applied(staged)
    assert list(now["queues"].rope) == []
    assert now["queues"].change.state_revision == 3
    staged = changeset(now, 4)
    staged.remove("queues", QUEUE.key)
    assert staged.changed() == {}


def test_every_updated_at_of_an_entity_is_the_same() -> None:
    staged = changeset({"workload": SectionSnapshot()}, 2)
    text = '"updated_at":"0001-01-01T00:00:00Z"'  # a text that looks like one is left alone
    one = Workload(
        key="k", deployment_name=text, namespace="n", kind="Job", live=Live(message=text)
    )
    staged.put("workload", one, encode(one), same_state(Workload))
    (fragment,) = applied(staged)["workload"].rope
    shown = msgspec.json.decode(fragment.body, type=Workload)
    stamp = NOON.replace(minute=2)
    assert shown == replace(one, live=replace(one.live, updated_at=stamp), updated_at=stamp)


def test_entities_are_counted_by_source() -> None:
    staged = changeset({}, 2)
    staged.count(("a", "b"), None)
    staged.count(("a",), ("b",))
    staged.count(("c",), ("c",))
    staged.count(None, ("a",))
    assert {name: n for name, n in staged.entities.items() if n} == {"a": 1}
