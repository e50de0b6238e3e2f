import msgspec
import pytest

from telemetron.history.recorder import Entry, pack
from telemetron.history.tasks import (
    ACTIVE,
    ENDED,
    FAILURE,
    INDEXED,
    WAITING,
    has_mention,
    mentions,
    number,
    numbers,
    task_changes,
)


def item(id, **more):
    return {"id": id, **more}


def agent(active=(), **activity):
    return msgspec.json.encode({"activity": {ACTIVE: list(active), **activity}})


def changed(**activity):
    return Entry("agents", "a", pack({"activity": activity}))


def listed(changed=(), removed=(), added=()):
    """The delta of a list."""
    sides = [[[0, one] for one in side] for side in (removed, added)]
    return ["id", list(changed), *sides, []]


def changes(entry, id="t"):
    return [
        (one.of, [it["id"] for it in one.old], [it["id"] for it in one.new])
        for one in task_changes(entry, id)
    ]


ENTRIES = [
    (Entry("agents", "a", new=agent([item("t")])), [(ACTIVE, [], ["t"])]),
    (Entry("agents", "a", old=agent([item("t")])), [(ACTIVE, ["t"], [])]),
    (Entry("agents", "a", new=agent(ended=[item("t")])), [(ENDED, [], ["t"])]),
    (Entry("queues", "q", new=msgspec.json.encode({"tasks": [item("t")]})), [(WAITING, [], ["t"])]),
    (changed(**{ACTIVE: listed(added=[item("t")])}), [(ACTIVE, [], ["t"])]),
    (changed(**{ACTIVE: listed(removed=[item("t")])}), [(ACTIVE, ["t"], [])]),
    (changed(**{ACTIVE: listed(changed=[["t", {"step": [None, "x"]}]])}), [(ACTIVE, [], [])]),
    (changed(**{ACTIVE: [[], [item("t"), item("t")]]}), [(ACTIVE, [], ["t", "t"])]),
    (changed(**{ACTIVE: listed(added=[item("c", parent_id="t")])}), [(ACTIVE, [], ["c"])]),
    (changed(**{ENDED: listed(added=[item("t", status="failed")])}), [(ENDED, [], ["t"])]),
    (changed(**{ENDED: listed(changed=[["t@2030", {"status": [None, "x"]}]])}), [(ENDED, [], [])]),
    (changed(**{FAILURE: [None, {"task_id": "t", "error": "E"}]}), [(FAILURE, [], ["t"])]),
    (changed(**{FAILURE: {"task_id": ["u", "t"]}}), [(FAILURE, [], ["t"])]),
    (
        Entry("queues", "q", pack({"tasks": listed(added=[item("t")])}), is_state=False),
        [(WAITING, [], ["t"])],
    ),
]


@pytest.mark.parametrize(("entry", "found"), ENTRIES)
def test_an_entry_is_found_by_the_task_and_says_how_it_changed(entry, found):
    assert changes(entry) == found
    assert number("t") in numbers([entry])
    assert has_mention(entry, mentions("t"))


@pytest.mark.parametrize("entry", [entry for entry, _ in ENTRIES])
def test_another_task_is_not_found(entry):
    assert changes(entry, "zz") == []
    assert number("zz") not in numbers([entry])
    assert not has_mention(entry, mentions("zz"))


@pytest.mark.parametrize(
    "entry",
    [
        Entry("agents", "t", pack({"status": ["idle", "active"]})),
        changed(**{FAILURE: {"at": [None, "t"]}}),
        Entry("litellm", "t", new=b'{"id":"t"}'),
        Entry("agents", "a", pack({"updated_at": ["t", "t"]})),
    ],
)
def test_an_entry_without_tasks_has_no_number(entry):
    assert numbers([entry]) == set()
    assert changes(entry) == []


def test_progress_of_a_long_task_is_not_indexed():
    delta = {"activity": {ACTIVE: listed(changed=[["t", {"progressed_at": ["x", "y"]}]])}}
    assert numbers([Entry("agents", "a", pack(delta), is_state=False)]) == set()


def test_a_failure_whose_error_stays_the_same_has_none():
    (one,) = task_changes(changed(**{FAILURE: {"task_id": ["u", "t"]}}), "t")
    assert one.new == [
        {"id": "t", "status": "failed", "error": None, "brief": True, "ended_at": None}
    ]


@pytest.mark.parametrize("id", ['a"b', "ü", "a/b\\c", "\u2028"])
def test_an_id_with_special_characters_is_found(id):
    for entry in (
        Entry("agents", "a", new=agent([item(id)])),
        changed(**{ACTIVE: listed(added=[item(id)])}),
    ):
        assert has_mention(entry, mentions(id))
        assert number(id) in numbers([entry])
        assert changes(entry, id) == [(ACTIVE, [], [id])]


def test_no_task_has_the_number_of_indexed_batches():
    assert number("t") != INDEXED
