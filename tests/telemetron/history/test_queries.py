"""Queries that the state machine does not make: changes, and the history of one entity."""

from datetime import timedelta

import msgspec
import pytest

from telemetron.agents import AgentPart
from telemetron.document import Instance
from telemetron.history import queries
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import milliseconds, moment
from telemetron.history.queries import Asked
from telemetron.history.selection import selection
from telemetron.history.timeline import Timeline
from telemetron.store.store import Store
from telemetron.testing import FakeClock
from tests.telemetron.history.system import FORGETFUL, System, locked, ticked


def test_an_answer_is_bounded_in_bytes(limited):
    system = limited(answer_bytes=2000)
    since = str(system.timeline.tip)
    for number in range(10):
        system.put(1, name=f"q{number}")
    asked = {"since": since, "sections": ("queues",)}
    answer = system.changes(**asked, link=lambda asked: asked.after)
    assert 1 <= len(answer["changes"]) < 10
    assert answer["truncated"]
    assert answer["next"] == f"queues/kafka/q{len(answer['changes']) - 1}/-"


def test_places_in_the_wrong_order_are_swapped(system):
    one, two = system.put(1), system.put(2)
    answer = system.changes(since=two, until=one, sections=("queues",))
    assert (answer["from"], answer["to"]) == (one, two)
    assert answer["changes"][0]["fields"] == {"consumers": {"old": 1, "new": 2}}


def test_changes_between_past_places_have_their_times(system):
    places, times = [], []
    for consumers in range(3):
        system.clock.advance(5)
        places.append(system.put(consumers))
        times.append(moment(milliseconds(system.clock.now())))
    answer = system.changes(since=places[0], until=places[1], sections=("queues",))
    at = msgspec.convert(answer["changes"][0]["at"], type=type(times[1]))
    assert at == times[1]


def test_an_unknown_entity_has_no_history():
    clock = FakeClock()
    store = Store("test", clock)
    timeline = Timeline(shapes(), store.snapshot, HistoryLimits(), lambda name: ())
    asked = selection("levels", ())
    with pytest.raises(LookupError):
        queries.entity_history(timeline, ("queues", "q"), None, asked, 10, clock.now())
    assert timeline.bytes_used() > 0
    timeline.close()


def test_the_history_of_an_entity_is_from_memory_and_file(tmp_path):
    first = System(tmp_path / "history.db")
    ticked(first, 1, 2)
    first.write()
    first.close()
    second = System(tmp_path / "history.db", first.clock, is_open=False)
    ticked(second, 7, 8)
    assert second.history()["consumers"] == [8, 7]
    assert second.history()["complete"]
    second.open()
    ticked(second, 9)
    history = second.history()
    assert history["consumers"] == [9, 8, 7, 2, 1]
    assert not history["complete"]  # nobody looked between the two epochs
    pages, before = [], None
    while True:
        page = second.history(before=before, limit=2)
        pages += page["consumers"]
        if not page["truncated"]:
            break
        before = page["changes"][-1]["place"]
    assert pages == [9, 8, 7, 2, 1]
    second.close()


def test_the_history_of_an_entity_over_a_hole_is_incomplete(tmp_path):
    system = System(tmp_path / "history.db", unwritten_weight=5, **FORGETFUL)
    ticked(system, 1)
    system.write()
    ticked(system, *range(2, 30))
    before = system.history()
    assert before["consumers"][-1] == 1
    assert 5 not in before["consumers"]
    assert not before["complete"]
    system.write()
    ticked(system, *range(30, 60))
    system.write()
    after = system.history()
    assert after["consumers"][-1] == 1
    assert after["consumers"][0] == 59
    assert not after["complete"]
    assert system.history(limit=1)["complete"]
    system.close()


def test_the_history_of_an_entity_is_read_from_a_locked_file(limited):
    system = limited(busy_seconds=0.0)
    ticked(system, 1, 2)
    with locked(system.path):
        assert system.history()["consumers"][:2] == [2, 1]


def test_an_answer_looks_through_a_bounded_part_of_a_long_history(limited):
    system = limited(answer_entries=4)
    ticked(system, *range(10))
    for name in ("x", "y"):  # changes of other entities do not count
        system.put(1, name=name)
    pages, before = [], None
    asked = selection("none", ("membership",))
    while True:
        body = queries.entity_history(
            system.timeline, ("queues", "kafka/q/-"), before, asked, 20, system.clock.now(), str
        )
        answer = msgspec.json.decode(body)
        pages.append([change["change"] for change in answer["changes"]])
        if not answer["truncated"]:
            break
        before = answer["next"]
    assert pages == [[], [], ["added"]]


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


def test_a_starting_source_removes_nothing(tmp_path):
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


def test_nothing_is_removed_before_the_first_source_is_added(tmp_path):
    first = System(tmp_path / "history.db")
    since = first.put(1)
    second = first.restarted()
    answer = second.changes(since=since, until=f"{second.timeline.tip.epoch}.1")
    assert answer["starting"] == ["kafka"]
    assert answer["changes"] == []
    second.close()


def test_a_list_of_a_starting_source_has_only_new_items(tmp_path):
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


def test_an_epoch_after_the_clock_was_set_back_comes_last(tmp_path):
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
    assert queries.news(second.timeline, Asked(since, sections=("queues",))).to == tip
    assert second.history()["consumers"] == [7, 1]
    assert second.history(before=tip)["consumers"] == [1]
    assert second.history(before=since)["consumers"] == []
    assert second.timeline.oldest() == oldest
    second.close()


def test_the_history_of_an_entity_before_a_time_includes_the_last_change(system):
    ticked(system, 1, 2, 3)
    system.clock.advance(10)
    time = system.clock.now()
    system.clock.advance(10)
    ticked(system, 4)
    assert system.history(before=time.isoformat())["consumers"] == [3, 2, 1]


def test_changes_begin_at_the_oldest_place_that_is_left(tmp_path):
    limits = FORGETFUL | {"open_weight": 1000}
    system = System(tmp_path / "history.db", is_open=False, **limits)
    ticked(system, *range(100))
    assert system.changes()["from"] == str(system.timeline.oldest())
    system.close()


def test_times_of_changes_are_read_from_the_file(
    tmp_path,
):
    system = System(tmp_path / "history.db", **FORGETFUL)
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


def test_places_of_two_epochs_in_the_wrong_order_are_swapped(tmp_path):
    first = System(tmp_path / "history.db")
    one = first.put(1)
    second = first.restarted()
    two = second.put(2)
    answer = second.changes(since=two, until=one, sections=("queues",))
    assert (answer["from"], answer["to"]) == (one, two)
    second.close()


def test_the_end_of_the_run_before_is_what_its_file_has_last(tmp_path):
    first = System(tmp_path / "history.db")
    assert queries.end_of_run_before(first.timeline, "queues") is None
    first.put(1)
    first.put(7)
    first.write()
    ended_at = milliseconds(first.clock.now())
    first.close()
    first.clock.advance(60)
    second = System(tmp_path / "history.db", first.clock)
    second.put(3)
    second.write()
    ended = queries.end_of_run_before(second.timeline, "queues")
    assert [msgspec.json.decode(body)["consumers"] for body in ended.bodies] == [7]
    assert ended.alive_at == ended_at
    assert queries.end_of_run_before(second.timeline, "agents").bodies == []
    second.close()
