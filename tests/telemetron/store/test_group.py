"""Groups, and which of them shows a key."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from telemetron.document import Queue
from telemetron.store.changeset import Changeset
from telemetron.store.group import Group, Groups
from telemetron.store.part import Part
from telemetron.store.section import Section, each
from telemetron.store.snapshot import SectionSnapshot

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Shelf:
    """Groups of queues, merged one by one into what is published next."""

    def __init__(self) -> None:
        self.groups = Groups({"queues": Section(Queue, Queue, each("name"))})
        self.sections = {"queues": SectionSnapshot()}
        self.revision = 2
        self.changeset = Changeset(self.sections, self.revision, NOON)

    def part(self, group: str, id: str, name: str, depth: int = 0) -> Part:
        return Part("k", "queues", group, id, "", Queue(name=name, depth=depth))

    def put(self, group: str, id: str, name: str, depth: int = 0) -> Group:
        return self.groups.add(self.part(group, id, name, depth))

    def remove(self, group: str, id: str) -> Group:
        return self.groups.remove(self.part(group, id, ""))

    def merge(self, group: Group) -> list[str]:
        """Merge and stage it; return the ids of the groups that must be merged too."""
        rivals = self.groups.stage(group, self.groups.merge(group), self.changeset)
        return [rival.id for rival in rivals]

    def publish(self) -> dict[str, int]:
        """What is shown: the depth of each queue by name."""
        steps = self.changeset.apply(self.changeset.changed())
        try:
            while True:
                next(steps)
        except StopIteration as end:
            self.sections = end.value
        self.revision += 1
        self.changeset = Changeset(self.sections, self.revision, NOON)
        return {one.entity.name: one.entity.depth for one in self.sections["queues"].rope}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def counts(shelf: Shelf) -> int:
    return shelf.changeset.entities["k"]


def test_a_group_shows_its_entities(shelf: Shelf) -> None:
    shelf.put("g", "1", "one", 1)
    group = shelf.put("g", "2", "two", 2)
    assert shelf.merge(group) == []
    assert counts(shelf) == 2
    assert shelf.publish() == {"one": 1, "two": 2}


def test_an_entity_that_its_group_no_longer_has_is_removed(shelf: Shelf) -> None:
    shelf.merge(shelf.put("g", "1", "one"))
    shelf.merge(shelf.put("g", "2", "two"))
    shelf.publish()
    assert shelf.merge(shelf.remove("g", "1")) == []
    assert counts(shelf) == -1
    assert shelf.publish() == {"two": 0}


def test_the_first_of_two_parts_with_one_key_is_shown(shelf: Shelf) -> None:
    shelf.put("g", "2", "one", 2)
    group = shelf.put("g", "1", "one", 1)
    shelf.merge(group)
    assert group.hidden == ("k/one",)
    assert shelf.publish() == {"one": 1}
    shelf.merge(shelf.remove("g", "1"))
    assert group.hidden == ()
    assert shelf.publish() == {"one": 2}


def test_the_smaller_of_two_groups_shows_the_key(shelf: Shelf) -> None:
    large, small = shelf.put("b", "1", "one", 1), shelf.put("a", "2", "one", 2)
    assert shelf.merge(large) == []
    assert shelf.merge(small) == ["b"]
    assert shelf.merge(large) == []
    assert (large.hidden, small.hidden) == (("k/one",), ())
    assert counts(shelf) == 1
    assert shelf.publish() == {"one": 2}


def test_a_larger_group_that_claims_later_shows_nothing(shelf: Shelf) -> None:
    shelf.merge(shelf.put("a", "1", "one", 1))
    later = shelf.put("b", "2", "one", 2)
    assert shelf.merge(later) == []
    assert later.hidden == ("k/one",)
    assert shelf.publish() == {"one": 1}
    assert shelf.merge(shelf.remove("b", "2")) == []
    assert shelf.publish() == {"one": 1}


def test_the_next_claimant_takes_over(shelf: Shelf) -> None:
    groups = {id: shelf.put(id, id, "one", ord(id)) for id in "abc"}
    for group in groups.values():
        shelf.merge(group)
    shelf.publish()
    assert shelf.merge(shelf.remove("a", "a")) == ["b"]
    assert shelf.merge(groups["b"]) == []
    assert (groups["b"].hidden, groups["c"].hidden) == ((), ("k/one",))
    assert counts(shelf) == 0
    assert shelf.publish() == {"one": ord("b")}


@pytest.mark.parametrize("first", ["new", "old"])
@pytest.mark.parametrize(("new", "old"), [("a", "b"), ("b", "a")])
def test_a_key_that_changes_its_group_in_one_flush_is_shown(
    shelf: Shelf, new: str, old: str, first: str
) -> None:
    """A thing is deleted and made again under another id, and both events come in one flush."""
    shelf.merge(shelf.put(old, "1", "one", 1))
    shelf.publish()
    gone, come = shelf.remove(old, "1"), shelf.put(new, "2", "one", 2)
    dirty = {group.id: group for group in ((come, gone) if first == "new" else (gone, come))}
    while dirty:
        group = dirty.pop(next(iter(dirty)))
        dirty.update({id: {new: come, old: gone}[id] for id in shelf.merge(group)})
    assert counts(shelf) == 0
    assert shelf.publish() == {"one": 2}


def test_a_group_without_parts_is_forgotten(shelf: Shelf) -> None:
    group = shelf.put("g", "1", "one")
    assert shelf.put("g", "1", "one") is group
    shelf.merge(shelf.remove("g", "1"))
    assert shelf.put("g", "1", "one") is not group


def test_a_forgotten_group_does_not_remove_its_successor(shelf: Shelf) -> None:
    """Emptied while a flush runs, it is merged by this flush and by the next one."""
    old = shelf.put("g", "1", "one")
    shelf.merge(shelf.remove("g", "1"))
    new = shelf.put("g", "1", "one", 5)
    shelf.merge(new)
    shelf.merge(old)
    assert shelf.remove("g", "1") is new


def test_a_merge_that_fails_claims_nothing() -> None:
    def merge(parts: object) -> Iterator[Queue]:
        yield Queue(key="k/one", name="one")
        yield Queue(key="k/two", name="two", depth=object())  # cannot be encoded

    groups = Groups({"queues": Section(Queue, Queue, merge)})
    group = groups.add(Part("k", "queues", "g", "1", "", Queue(name="one")))
    with pytest.raises(TypeError):
        groups.merge(group)
    assert group.claims == {}


def test_no_parts_need_no_merge() -> None:
    def merge(parts: object) -> Iterator[Queue]:
        raise AssertionError("nothing to merge")

    groups = Groups({"queues": Section(Queue, Queue, merge)})
    assert groups.merge(Group("queues", "g")) == {}
