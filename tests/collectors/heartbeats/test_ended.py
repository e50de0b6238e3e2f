"""The ended tasks of an agent: which are new, which are shown, and how many there were."""

from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.agents import AgentPart
from telemetron.document import MAX_ENDED, Ended, Failure
from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.heartbeats.beat import Beat
from telemetron_collectors.heartbeats.ended import MAX_WAITING, SHOW_SECONDS
from telemetron_collectors.heartbeats.register import Register

START = datetime(2030, 1, 1, tzinfo=UTC)


class Bench:
    """A register with a fake clock, and what it publishes of ended tasks."""

    def __init__(self) -> None:
        self.clock = FakeClock(START)
        self.output = RecordingOutput(self.clock)
        self.register = Register(self.output, stall_after=300, forget_after=3600)

    def beat(self, *ends: Any, instance: str = "i", name: str = "planner", **fields: Any) -> None:
        """Send a beat that lists these ends: by their number, or with all their fields."""
        listed = [end if isinstance(end, dict) else ended(end) for end in ends]
        beat = {"instance": instance, "boot_id": "b", "ended": listed, **fields}
        self.register.beat(name, msgspec.convert(beat, Beat))

    @property
    def parts(self) -> list[AgentPart]:
        parts = [msgspec.convert(part, AgentPart) for part in self.output.parts.values()]
        return [part for part in parts if part.ended_count is not None]

    @property
    def ended(self) -> list[Ended]:
        (part,) = self.parts
        return part.ended

    @property
    def ids(self) -> list[str]:
        return [end.id for end in self.ended]

    @property
    def count(self) -> int | None:
        (part,) = self.parts
        return part.ended_count

    def published(self) -> list[list[str]]:
        """The ids that each publication added, oldest first."""
        shown: list[list[str]] = [[]]
        for call in self.output.calls:
            if call[0] == "put" and call[4].ended_count is not None:
                shown.append([end.id for end in call[4].ended])
        return [[id for id in reversed(new) if id not in old] for old, new in pairwise(shown)]


def ended(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"t-{number}",
        "status": "completed",
        "ended_at": START + timedelta(seconds=number),
        **fields,
    }


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_field_of_an_end_is_shown(bench: Bench) -> None:
    fields = {
        "id": "t",
        "parent_id": "p",
        "status": "failed",
        "error": "TimeoutError",
        "started_on": START,
        "ended_at": START + timedelta(seconds=1),
        "queue": "q",
        "partition": 1,
        "offset": 2**62,
    }
    bench.beat(fields)
    assert bench.ended == [Ended(**fields, instance="i")]
    assert {*fields, "instance"} == set(Ended.__struct_fields__)


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("completed", "completed"),
        ("TASK_STATE_FAILED", "failed"),
        ("rejected", "failed"),
        ("cancelled", "canceled"),
        ("TaskState.canceled", "canceled"),
        ("working", None),
        ("lost", None),
        (None, None),
    ],
)
def test_outcomes_in_any_spelling(bench: Bench, status: str | None, shown: str | None) -> None:
    bench.beat(ended(1, status=status))
    assert bench.ended[0].status == shown


def test_a_task_with_a_final_status_has_ended(bench: Bench) -> None:
    over = {"id": "t", "status": "failed", "started_on": START, "queue": "q", "offset": 3}
    bench.beat(tasks=[over, {"id": "u", "status": "working"}])
    bench.beat(tasks=[over])
    (end,) = bench.ended
    assert (end.id, end.status, end.ended_at, end.offset) == ("t", "failed", None, 3)
    assert bench.count == 1


def test_a_task_that_is_listed_twice_has_one_end(bench: Bench) -> None:
    bench.beat(1, tasks=[{"id": "t-1", "status": "completed"}])
    assert [end.ended_at for end in bench.ended] == [START + timedelta(seconds=1)]


def test_its_own_id_is_no_parent(bench: Bench) -> None:
    bench.beat(ended(1, parent_id="t-1"))
    assert bench.ended[0].parent_id is None


# which are new


def test_a_repeated_end_changes_nothing(bench: Bench) -> None:
    bench.beat(1, 2)
    before = len(bench.output.calls)
    bench.beat(1, 2)
    assert len(bench.output.calls) == before
    bench.beat(1, 2, 3)
    assert bench.ids == ["t-3", "t-2", "t-1"]
    assert bench.count == 3


def test_a_beat_without_news_keeps_the_ends(bench: Bench) -> None:
    bench.beat(1, outcomes={"completed": 1})
    before = bench.output.calls.copy()
    bench.beat(outcomes={"completed": 1})
    assert bench.output.calls == before
    bench.beat(1, outcomes={"completed": 1})  # a late repetition
    assert (bench.ids, bench.count) == (["t-1"], 1)


def test_the_same_id_may_end_several_times(bench: Bench) -> None:
    bench.beat(1)
    bench.beat(ended(1, ended_at=START + timedelta(seconds=9), status="failed"))
    assert [end.status for end in bench.ended] == ["failed", "completed"]


def test_a_late_beat_is_dropped_with_its_ends(bench: Bench) -> None:
    bench.beat(1, 2, sequence=2)
    bench.beat(1, sequence=1)
    bench.beat(1, 2, 3, sequence=3)
    assert (bench.ids, bench.count) == (["t-3", "t-2", "t-1"], 3)


def test_the_newest_report_comes_first_whatever_the_clocks(bench: Bench) -> None:
    bench.beat(5, 4, instance="a")
    bench.beat(1, 2, instance="b")
    assert bench.ids == ["t-2", "t-1", "t-5", "t-4"]


# how many


def test_outcomes_count_what_is_not_listed(bench: Bench) -> None:
    bench.beat(8, 9, outcomes={"completed": 100, "failed": 1, "canceled": 2})
    assert bench.count == 103
    bench.beat(10, outcomes={"completed": 104, "failed": 1, "canceled": 2})
    assert bench.count == 107


def test_nothing_ended_is_not_unknown(bench: Bench) -> None:
    bench.beat()
    assert bench.parts == []
    bench.beat(instance="j", outcomes={})
    assert (bench.ids, bench.count) == ([], 0)


def test_a_restart_counts_on_and_keeps_the_ends(bench: Bench) -> None:
    bench.beat(1, outcomes={"completed": 5})
    bench.beat(2, outcomes={"completed": 2}, boot_id="c")
    assert (bench.ids, bench.count) == (["t-2", "t-1"], 7)
    bench.beat(2, outcomes={"completed": 1}, boot_id="c")  # a restart that nothing else shows
    assert bench.count == 8


def test_another_instance_keeps_the_ends_of_one_that_leaves(bench: Bench) -> None:
    bench.beat(1, instance="a", outcomes={"completed": 5})
    bench.beat(2, instance="b", outcomes={"completed": 1})
    bench.register.goodbye("planner", "a")
    assert (bench.ids, bench.count) == (["t-2", "t-1"], 6)


def instance_of(part: AgentPart) -> str:
    assert part.instance
    return part.instance.id


def test_one_instance_shows_the_ends_of_all(bench: Bench) -> None:
    bench.beat(1, instance="a")
    bench.beat(instance="b", tasks=[{"id": "t"}])
    puts = len(bench.output.calls)
    bench.beat(2, instance="b", tasks=[{"id": "u"}])
    assert len(bench.output.calls) == puts + 2
    (part,) = bench.parts
    assert instance_of(part) == "a"
    bench.register.goodbye("planner", "a")
    (part,) = bench.parts
    assert instance_of(part) == "b"
    assert ([end.id for end in part.ended], [task.id for task in part.tasks]) == (
        ["t-2", "t-1"],
        ["u"],
    )


def test_ends_that_wait_are_shown_by_another_instance_if_theirs_leaves(bench: Bench) -> None:
    bench.beat(*range(30), instance="a")
    bench.beat(instance="b")
    bench.register.goodbye("planner", "a")
    bench.clock.advance(SHOW_SECONDS)
    assert bench.ids[0] == "t-29"
    bench.clock.advance(24 * 3600)
    assert bench.output.parts == {}


def test_a_silent_instance_keeps_its_ends(bench: Bench) -> None:
    bench.beat(1)
    bench.clock.advance(60)
    assert bench.ids == ["t-1"]
    bench.clock.advance(24 * 3600)
    assert bench.output.parts == {}


# which are shown


def test_the_newest_are_shown(bench: Bench) -> None:
    for number in range(30):
        bench.beat(number)
        bench.clock.advance(SHOW_SECONDS)
    assert bench.ids == [f"t-{number}" for number in range(29, 9, -1)]
    assert bench.count == 30


def test_a_reader_of_all_publications_sees_every_end(bench: Bench) -> None:
    """More ends than are shown at once, of several instances."""
    for instance in range(3):
        first = 1000 * instance
        bench.beat(*range(first, first + 64), instance=f"i-{instance}")
    assert len(bench.ids) == MAX_ENDED
    bench.clock.advance(10 * SHOW_SECONDS)
    published = bench.published()
    assert max(map(len, published)) == MAX_ENDED
    expected = [f"t-{1000 * instance + n}" for instance in range(3) for n in range(64)]
    assert [id for ids in published for id in ids] == expected
    assert bench.count == 3 * 64


def test_ends_that_wait_to_be_shown_are_bounded(bench: Bench) -> None:
    for turn in range(MAX_WAITING // 64 + 5):
        bench.beat(*range(64 * turn, 64 * turn + 64))
    bench.clock.advance(SHOW_SECONDS * MAX_WAITING)
    total = (MAX_WAITING // 64 + 5) * 64
    assert bench.ids[0] == f"t-{total - 1}"
    assert len([id for ids in bench.published() for id in ids]) == MAX_WAITING + MAX_ENDED
    assert bench.count == total


def test_the_last_instance_stays_until_its_ends_are_published(bench: Bench) -> None:
    bench.beat(*range(30))
    bench.register.goodbye("planner", "i")
    assert bench.register.lives("planner") == []
    bench.clock.advance(SHOW_SECONDS)
    assert bench.ids[0] == "t-29"
    bench.clock.advance(SHOW_SECONDS)
    assert bench.output.parts == {}
    bench.beat(31)  # a late beat of the boot that left
    assert bench.output.parts == {}


def test_a_new_boot_during_the_goodbye_begins_at_once(bench: Bench) -> None:
    bench.beat(1, outcomes={"completed": 1})
    bench.register.goodbye("planner", "i")
    bench.beat(2, outcomes={"completed": 1}, boot_id="c")
    assert (bench.ids, bench.count) == (["t-2"], 1)
    bench.clock.advance(SHOW_SECONDS)
    assert [life.lives for life in bench.register.lives("planner")] == [1]


def pod_of(part: AgentPart) -> str | None:
    assert part.instance
    return part.instance.pod_id


def test_agents_of_several_namespaces_and_pods_are_separate(bench: Bench) -> None:
    bench.beat(1, namespace="a")
    bench.beat(2, namespace="b")
    bench.beat(3, pod_id="p")
    bench.beat(4, pod_id="q", instance="j")
    shown = {(part.namespace, pod_of(part)): part.ended[0].id for part in bench.parts}
    pods = {(None, "p"): "t-3", (None, "q"): "t-4"}
    assert shown == {("a", None): "t-1", ("b", None): "t-2"} | pods
    bench.beat(5, pod_id="r", instance="j")
    assert {pod_of(part) for part in bench.parts} == {None, "p", "r"}


def test_a_replacement_of_all_parts_keeps_the_ends(bench: Bench) -> None:
    bench.beat(1)
    parts = [put.part for put in bench.register.parts()]
    assert [end.id for part in parts for end in part.ended] == ["t-1"]
    bench.register.close()


# the last failure


def test_the_last_failure_is_the_newest_failed_end(bench: Bench) -> None:
    bench.beat(ended(2, status="failed", error="E"), ended(1, status="failed"), ended(3))
    part = msgspec.convert(bench.register.parts()[0].part, AgentPart)
    assert part.last_failure == Failure("t-2", "E", START + timedelta(seconds=2))


# a client that keeps ends until they are accepted, over a network that loses requests and answers


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(["arrives", "request lost", "answer lost"])),
        max_size=30,
    )
)
def test_whatever_is_lost_each_kept_end_is_published_once(beats: list[tuple[int, str]]) -> None:
    bench, kept, total = Bench(), deque[int](maxlen=64), 0
    given_up: set[int] = set()
    for sequence, (count, fate) in enumerate([*beats, (0, "arrives")]):
        for number in range(total, total + count):
            if len(kept) == kept.maxlen:
                given_up.add(kept[0])
            kept.append(number)
        total += count
        if fate != "request lost":
            bench.beat(*kept, sequence=sequence, outcomes={"completed": total})
        if fate == "arrives":
            kept.clear()
        bench.clock.advance(1)
    published = [id for ids in bench.published() for id in ids]
    assert len(published) == len(set(published))
    assert {f"t-{number}" for number in range(total)} - set(published) <= {
        f"t-{number}" for number in given_up
    }
    assert bench.count == total
    assert bench.ids == [*reversed(published)][:MAX_ENDED]
