"""The register with a fake clock and an output that records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from telemetron.agents import AgentPart
from telemetron.document import Failure
from telemetron.http import HttpProblem
from telemetron.testing import FakeClock, FakeTimer, RecordingOutput
from telemetron_collectors.heartbeats.beat import Beat
from telemetron_collectors.heartbeats.register import LIMITS, Register, RegisterLimits

HOUR = 3600.0
START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock(FakeClock):
    """Counts the timers that were set, and the pending ones."""

    def __init__(self) -> None:
        super().__init__(START)
        self.set = 0
        self._pending: list[FakeTimer] = []

    def call_later(self, delay: float, callback: Any, *args: Any) -> FakeTimer:
        def ring() -> None:
            timer.cancel()
            callback(*args)

        timer = super().call_later(delay, ring)
        self.set += 1
        self._pending.append(timer)
        return timer

    def waiting(self) -> int:
        self._pending = [timer for timer in self._pending if timer.callback]
        return len(self._pending)


class Bench:
    """A register, and the shortest way to talk to it."""

    def __init__(
        self,
        stall_after: float = 300.0,
        forget_after: float = HOUR,
        limits: RegisterLimits = LIMITS,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.output = RecordingOutput(self.clock)
        self.register = Register(
            self.output, stall_after=stall_after, forget_after=forget_after, limits=limits
        )

    def beat(self, name: str = "planner", instance: str = "i", **fields: Any) -> None:
        self.register.beat(name, msgspec.convert({"instance": instance, **fields}, Beat))

    def after(self, seconds: float, **fields: Any) -> None:
        self.clock.advance(seconds)
        self.beat(**fields)

    @property
    def parts(self) -> list[AgentPart]:
        return [part for part in self._all if part.instance]

    @property
    def ended(self) -> AgentPart:
        """The part with the agent's ended tasks."""
        (part,) = [part for part in self._all if not part.instance]
        return part

    @property
    def _all(self) -> list[AgentPart]:
        return [msgspec.convert(part, AgentPart) for part in self.output.parts.values()]

    @property
    def part(self) -> AgentPart:
        (part,) = self.parts
        return part

    @property
    def status(self) -> str:
        assert self.part.instance
        return self.part.instance.status

    def counted(self, event: str) -> int:
        return sum(call[2] for call in self.output.calls if call[:2] == ("count", event))

    @property
    def puts(self) -> int:
        return sum(call[0] == "put" for call in self.output.calls)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def tasks(*ids: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": id, **fields} for id in ids]


def shown(bench: Bench) -> list[str]:
    return [task.id for task in bench.part.tasks]


# lives: boots and sequences


@pytest.mark.parametrize("sequence", [0, 4, 5])
def test_a_beat_that_is_not_newer_changes_nothing(bench: Bench, sequence: int) -> None:
    bench.beat(boot_id="a", sequence=5, tasks=tasks("new"))
    bench.after(10, boot_id="a", sequence=sequence, tasks=tasks("late"), interval_seconds=300)
    assert shown(bench) == ["new"]
    assert bench.counted("beats_dropped") == 1
    bench.clock.advance(5)
    assert bench.status == "silent"  # 15 s after the beat that counted


def test_a_new_boot_is_a_new_life_whatever_its_sequence(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5, tasks=tasks("old"), last_failure={"task_id": "f"})
    bench.after(1, boot_id="b", sequence=1, tasks=tasks("new"))
    assert shown(bench) == ["new"]
    assert bench.part.since == at(1)


def test_an_instance_that_dies_of_one_task_again_and_again(bench: Bench) -> None:
    """A crash loop: each life takes the task, reports nothing, and is gone."""
    bench.beat(boot_id="0", sequence=1, last_failure={"task_id": "t", "error": "OutOfMemory"})
    for boot in range(1, 20):
        bench.after(1, boot_id=str(boot), sequence=1, tasks=tasks("t"), task_count=3)
        bench.after(30, boot_id=str(boot), sequence=2, tasks=tasks("t"), task_count=3)
    assert bench.part.last_failure == Failure("t", "OutOfMemory")
    assert bench.part.instance
    assert (bench.part.instance.lives, bench.part.instance.tasks_lost) == (20, 18 * 3)
    told = {"task_id": "u", "error": "KeyError"}
    bench.after(1, boot_id="19", sequence=3, last_failure=told)
    assert bench.part.last_failure == Failure("u", "KeyError")


def test_a_restart_of_an_idle_instance_loses_no_task(bench: Bench) -> None:
    bench.beat(boot_id="a", tasks=tasks("over", status="completed"))
    bench.beat(boot_id="b")
    assert bench.part.instance
    assert (bench.part.instance.lives, bench.part.instance.tasks_lost) == (2, 0)


def test_lives_count_from_the_last_goodbye(bench: Bench) -> None:
    bench.beat(boot_id="a", tasks=tasks("t"))
    bench.register.goodbye("planner", "i")
    bench.beat(boot_id="b")
    assert bench.part.instance
    assert (bench.part.instance.lives, bench.part.instance.tasks_lost) == (1, 0)


def lives(bench: Bench) -> tuple[int | None, int | None]:
    assert bench.part.instance
    return bench.part.instance.lives, bench.part.instance.tasks_lost


def duplicates(bench: Bench) -> list[str]:
    return [problem.reason for problem in bench.part.problems]


def test_two_processes_of_one_instance_id_are_reported(bench: Bench) -> None:
    for second in range(0, 60, 5):  # a late beat of a predecessor looks the same
        bench.beat(boot_id="old", sequence=second)
        bench.after(5, boot_id="new", sequence=second)
        assert duplicates(bench) == []
    bench.after(5, boot_id="old", sequence=70)
    (problem,) = bench.part.problems
    assert (problem.reason, problem.since) == ("DuplicateInstance", bench.clock.now())
    assert "instance i: " in problem.message
    bench.beat(boot_id="new", sequence=70)
    assert duplicates(bench) == ["DuplicateInstance"]
    for sequence in range(71, 84):
        bench.after(5, boot_id="new", sequence=sequence)
    assert duplicates(bench) == []


def test_many_processes_of_one_instance_id_are_reported(bench: Bench) -> None:
    boots = [str(number) for number in range(40)]
    for second in range(0, 70, 5):
        bench.clock.advance(5)
        for boot in boots:
            bench.beat(boot_id=boot, sequence=second, tasks=tasks("t"))
    assert duplicates(bench) == ["DuplicateInstance"]
    assert lives(bench) == (40, 39)


def test_the_surviving_process_of_a_shared_id_is_shown(bench: Bench) -> None:
    bench.beat(boot_id="old", sequence=1)
    bench.beat(boot_id="new", sequence=1, tasks=tasks("lost"))
    for sequence in range(2, 15):
        bench.after(5, boot_id="old", sequence=sequence, tasks=tasks("kept"))
        if sequence < 6:
            bench.beat(boot_id="new", sequence=sequence, tasks=tasks("lost"))
    assert (shown(bench), bench.status, duplicates(bench)) == (["kept"], "active", [])
    assert lives(bench) == (2, 1)


def test_of_two_processes_that_are_silent_none_is_a_duplicate(bench: Bench) -> None:
    bench.beat(boot_id="old")
    bench.beat(boot_id="new")
    bench.after(60, boot_id="new")
    bench.beat(boot_id="old")
    assert duplicates(bench) == ["DuplicateInstance"]
    bench.clock.advance(15)
    assert (bench.status, duplicates(bench)) == ("silent", [])


def test_the_goodbye_of_a_predecessor_hides_its_successor_until_its_next_beat(bench: Bench) -> None:
    bench.beat(boot_id="old", sequence=1)
    bench.after(5, boot_id="new", sequence=1)
    bench.after(1, boot_id="old", sequence=2)
    bench.register.goodbye("planner", "i")
    assert not bench.register.parts()
    bench.after(4, boot_id="new", sequence=2, tasks=tasks("t"))
    assert shown(bench) == ["t"]


def test_a_late_beat_of_the_same_life_is_no_duplicate(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5)
    bench.after(100, boot_id="a", sequence=6)
    bench.beat(boot_id="a", sequence=6)
    assert duplicates(bench) == []


def test_late_beats_of_all_earlier_lives_are_dropped(bench: Bench) -> None:
    boots = ["a", "b", "c", "d"]
    for boot in boots:
        bench.beat(boot_id=boot, sequence=1)
    for boot in boots[:-1]:
        bench.beat(boot_id=boot, sequence=99, tasks=tasks("late"))
        bench.beat(boot_id=boot, tasks=tasks("late"))
    assert shown(bench) == []
    assert bench.counted("beats_dropped") == 6


def test_remembered_boots_are_bounded(bench: Bench) -> None:
    for number in range(100):
        bench.beat(boot_id=str(number))
    (put,) = bench.register.parts()
    assert put.id == "planner/-/i"
    bench.beat(boot_id="98", tasks=tasks("late"))
    assert shown(bench) == []


def test_without_a_sequence_a_beat_is_always_newer(bench: Bench) -> None:
    for boot in ({}, {"boot_id": "a"}):
        bench.beat(**boot, tasks=tasks("one"))
        bench.beat(**boot, tasks=tasks("two"))
        assert shown(bench) == ["two"]


def test_a_beat_without_sequence_does_not_make_older_ones_newer(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5)
    bench.beat(boot_id="a", tasks=tasks("new"))
    bench.beat(boot_id="a", sequence=4, tasks=tasks("late"))
    assert shown(bench) == ["new"]


def test_without_a_boot_id_a_lower_sequence_after_a_silence_is_a_new_life(bench: Bench) -> None:
    bench.beat(sequence=9, last_failure={"task_id": "f"})
    bench.after(14, sequence=1, tasks=tasks("late"))
    assert shown(bench) == []
    bench.after(1, sequence=1, tasks=tasks("new"))
    assert shown(bench) == ["new"]
    assert bench.part.instance
    assert bench.part.instance.lives == 2
    bench.beat(sequence=2, tasks=tasks("newer"))
    assert shown(bench) == ["newer"]


def test_instances_are_apart_by_agent_namespace_and_id(bench: Bench) -> None:
    bench.beat("a", "i", boot_id="x", sequence=9)
    bench.beat("b", "i", boot_id="x", sequence=1)
    bench.beat("a", "i", boot_id="x", sequence=1, namespace="n")
    bench.beat("a", "j", boot_id="x", sequence=1)
    bench.beat("a/-", "i", boot_id="x", sequence=1)
    assert len(bench.parts) == 5


# the same content


def test_the_same_content_is_put_once(bench: Bench) -> None:
    for sequence in range(1000):
        bench.after(1, boot_id="a", sequence=sequence, tasks=tasks("t", progressed_at=at(0)))
    assert bench.puts - bench.clock.set <= 1  # else only a timer puts, to look again
    assert bench.status == "active"


def test_one_timer_an_instance_which_beats_never_cancel(bench: Bench) -> None:
    for second in range(1000):
        progress = tasks("t", progressed_at=at(second), step=str(second))
        bench.after(1, boot_id="a", sequence=second, tasks=progress)
        assert bench.clock.waiting() == 1
    assert bench.clock.set <= 1000 / 10
    bench.beat(instance="j")
    assert bench.clock.waiting() == 2
    bench.register.close()
    assert bench.clock.waiting() == 0


def test_a_shorter_interval_counts_at_once(bench: Bench) -> None:
    bench.beat(interval_seconds=300)
    bench.after(1, interval_seconds=1)
    bench.clock.advance(3)
    assert bench.status == "silent"
    assert bench.clock.waiting() == 1


# silence


@pytest.mark.parametrize("interval", [1.0, 5.0, 7.3, 300.0])
def test_silent_at_three_intervals_by_a_timer(interval: float) -> None:
    bench = Bench()
    bench.beat(interval_seconds=interval, boot_id="a", sequence=1)
    bench.after(interval, interval_seconds=interval, boot_id="a", sequence=2)
    bench.clock.advance(3 * interval - 0.001)
    assert bench.status == "idle"
    bench.clock.advance(0.001 + 1e-9)
    assert bench.status == "silent"
    assert bench.part.instance is not None
    assert bench.part.instance.silent_since == at(round(interval, 3))


def test_tasks_of_a_silent_instance_are_the_last_known(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=1, tasks=tasks("t"))
    assert not bench.part.tasks[0].last_known
    bench.clock.advance(15)
    assert bench.part.tasks[0].last_known
    bench.after(5, boot_id="b", sequence=1)
    assert shown(bench) == []
    assert bench.status == "idle"


def test_a_late_beat_does_not_end_a_silence(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5)
    bench.after(15, boot_id="a", sequence=5)
    assert bench.status == "silent"


def test_an_instance_that_beats_again_is_live_again(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=1, tasks=tasks("t"))
    bench.after(100, boot_id="a", sequence=2, tasks=tasks("t"))
    assert bench.status == "active"
    assert bench.part.instance is not None
    assert bench.part.instance.silent_since is None
    assert not bench.part.tasks[0].last_known
    bench.clock.advance(15)
    assert bench.status == "silent"


def test_silent_since_stays_when_the_wall_clock_is_set() -> None:
    class SetClock(Clock):
        is_set = False

        def now(self) -> datetime:
            return at(99_999) if self.is_set else super().now()

    clock = SetClock()
    bench = Bench(clock=clock)
    bench.after(0.0006)
    bench.clock.advance(15)
    before = bench.part
    clock.is_set = True
    bench.clock.advance(5 * HOUR)
    (put,) = bench.register.parts()
    assert bench.part == put.part == before


# forgetting


def test_a_silent_instance_is_forgotten_an_hour_after_its_last_beat(bench: Bench) -> None:
    bench.beat(instance="gone")
    bench.beat(instance="there")
    for _ in range(719):
        bench.after(5, instance="there")
    assert len(bench.parts) == 2
    bench.clock.advance(5)
    assert [part.instance and part.instance.id for part in bench.parts] == ["there"]


def test_the_last_instance_of_an_agent_is_kept_for_a_day(bench: Bench) -> None:
    bench.beat(tasks=tasks("t"))
    bench.clock.advance(24 * HOUR - 1)
    assert shown(bench) == ["t"]
    bench.clock.advance(1)
    assert bench.parts == []
    assert bench.clock.waiting() == 0


def test_of_instances_that_end_together_one_is_kept_for_a_day(bench: Bench) -> None:
    for instance in "abc":
        bench.beat(instance=instance)
    bench.beat("other")
    bench.beat(instance="elsewhere", namespace="n")
    bench.clock.advance(2 * HOUR)
    kept = sorted(bench.output.parts)
    assert len(kept) == 3
    assert [id for _, id in kept][1:] == ["planner/-/c", "planner/n/elsewhere"]
    bench.clock.advance(24 * HOUR)
    assert bench.parts == []


def test_an_instance_that_is_no_longer_the_last_is_forgotten(bench: Bench) -> None:
    bench.beat(instance="old")
    bench.clock.advance(2 * HOUR)
    for _ in range(1000):
        bench.after(5, instance="new")
    assert [part.instance and part.instance.id for part in bench.parts] == ["new"]


def test_patience_longer_than_a_day_holds_for_the_last_instance_too() -> None:
    bench = Bench(forget_after=48 * HOUR)
    bench.beat()
    bench.clock.advance(48 * HOUR - 1)
    assert bench.status == "silent"
    bench.clock.advance(1)
    assert bench.parts == []


def test_patience_shorter_than_the_silence() -> None:
    bench = Bench(forget_after=0.5)
    bench.beat(instance="gone", interval_seconds=300)
    for _ in range(90):
        bench.after(10, instance="there")
    assert {p.instance.status for p in bench.parts if p.instance} == {"silent", "idle"}
    bench.clock.advance(1)
    assert [part.instance and part.instance.id for part in bench.parts] == ["there"]


def test_the_forgotten_may_come_back(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5)
    bench.clock.advance(25 * HOUR)
    bench.beat(boot_id="a", sequence=6, tasks=tasks("t"))
    assert shown(bench) == ["t"]


# goodbye


def test_goodbye_forgets_at_once(bench: Bench) -> None:
    bench.beat()
    bench.register.goodbye("planner", "i")
    assert bench.parts == []
    assert bench.clock.waiting() == 0
    assert bench.register.parts() == []


@pytest.mark.parametrize("late", ["a", "b"])
def test_late_beats_after_a_goodbye_are_dropped(bench: Bench, late: str) -> None:
    bench.beat(boot_id="a", sequence=1)
    bench.beat(boot_id="b", sequence=1)
    bench.register.goodbye("planner", "i")
    bench.after(10, boot_id=late, sequence=2)
    assert bench.parts == []
    assert bench.counted("beats_dropped") == 1
    bench.beat(boot_id="c", sequence=1)
    assert bench.status == "idle"


def test_beats_long_after_a_goodbye_show_the_instance_again(bench: Bench) -> None:
    """As when the goodbye was its predecessor's, under the same id."""
    bench.beat(boot_id="new")
    bench.register.goodbye("planner", "i")
    bench.after(59, boot_id="new")
    assert bench.parts == []
    bench.after(1, boot_id="new")
    assert bench.status == "idle"


def test_remembered_goodbyes_are_bounded() -> None:
    bench = Bench(limits=RegisterLimits(goodbyes=3))
    for number in range(4):
        bench.beat(instance=str(number), boot_id="a")
        bench.register.goodbye("planner", str(number))
    for number in range(4):
        bench.beat(instance=str(number), boot_id="a")
    assert [id for _, id in bench.output.parts] == ["planner/-/0"]


def test_a_goodbye_of_an_unknown_instance_is_404(bench: Bench) -> None:
    bench.beat(namespace="n")
    for name, id, namespace in [("x", "i", None), ("planner", "x", None), ("planner", "i", "m")]:
        with pytest.raises(HttpProblem) as caught:
            bench.register.goodbye(name, id, namespace)
        assert caught.value.status == 404
    assert bench.status == "idle"


def test_an_ambiguous_goodbye_names_the_namespaces(bench: Bench) -> None:
    for namespace in (None, "n", "m"):
        bench.beat(namespace=namespace)
    with pytest.raises(HttpProblem) as caught:
        bench.register.goodbye("planner", "i")
    assert caught.value.status == 409
    assert caught.value.more == {"namespaces": ["-", "m", "n"]}
    assert len(bench.parts) == 3
    for namespace in caught.value.more["namespaces"]:
        bench.register.goodbye("planner", "i", namespace)
    assert bench.parts == []


# progress


def stalled(bench: Bench) -> list[bool | None]:
    return [task.stalled for task in bench.part.tasks]


def test_a_task_stalls_if_its_progress_does_not_change(bench: Bench) -> None:
    bench.beat(tasks=tasks("t", progressed_at=at(0)))
    for _ in range(59):
        bench.after(5, tasks=tasks("t", progressed_at=at(0)))
    bench.clock.advance(4.999)
    assert stalled(bench) == [False]
    bench.clock.advance(0.002)
    assert stalled(bench) == [True]
    bench.beat(tasks=tasks("t", progressed_at=at(1)))
    assert stalled(bench) == [False]


def test_the_timer_of_a_stall_is_not_early_by_a_rounding() -> None:
    for tenth in range(50):
        bench = Bench(stall_after=0.1)
        bench.after(tenth / 10, tasks=tasks("t", progressed_at=at(0)))
        bench.clock.advance(0.2)
        assert stalled(bench) == [True]


def test_progress_that_was_never_reported_is_unknown(bench: Bench) -> None:
    bench.beat(tasks=tasks("t"))
    bench.clock.advance(14)
    for _ in range(100):
        bench.after(5, tasks=tasks("t"))
    assert stalled(bench) == [None]


@pytest.mark.parametrize("lie", [-1e9, 1e9])
def test_progress_does_not_depend_on_the_agents_clock(lie: float) -> None:
    bench = Bench()
    bench.beat(tasks=tasks("t", progressed_at=at(lie)), sent_at=at(lie))
    assert stalled(bench) == [False]
    for second in range(0, 300, 5):
        told = tasks("t", progressed_at=at(lie))
        bench.after(5, tasks=told, sent_at=at(lie + second * 1000))
    assert stalled(bench) == [True]
    bench.beat(tasks=tasks("t", progressed_at=at(lie - 50)))  # set back, and yet it moved
    assert stalled(bench) == [False]


def test_each_task_stalls_separately(bench: Bench) -> None:
    old, new = tasks("old", progressed_at=at(0)), tasks("new", progressed_at=at(0))
    bench.beat(tasks=old)
    for second in range(5, 301, 5):
        bench.after(5, tasks=old + new if second >= 100 else old)
    assert stalled(bench) == [True, False]
    for _ in range(20):
        bench.after(5, tasks=old + new)
    assert stalled(bench) == [True, True]


def test_whether_a_task_of_a_silent_instance_stalls_is_unknown(bench: Bench) -> None:
    bench.beat(tasks=tasks("t", progressed_at=at(0)))
    bench.clock.advance(14)
    assert stalled(bench) == [False]
    bench.clock.advance(1000)
    assert stalled(bench) == [None]
    bench.beat(tasks=tasks("t", progressed_at=at(0)))
    assert stalled(bench) == [True]


def test_a_new_life_resets_progress(bench: Bench) -> None:
    bench.beat(boot_id="a", tasks=tasks("t", progressed_at=at(0)))
    bench.clock.advance(301)
    bench.beat(boot_id="b", tasks=tasks("t", progressed_at=at(0)))
    assert stalled(bench) == [False]


# what is said of tasks


@pytest.mark.parametrize(
    ("told", "status", "waits"),
    [
        ("submitted", "waiting", []),
        ("working", "running", []),
        ("input-required", "waiting", ["human"]),
        ("auth-required", "waiting", ["auth"]),
        ("unknown", None, []),
        ("something new", None, []),
        (None, None, []),
        ("running", "running", []),
        ("waiting", "waiting", []),
        ("TASK_STATE_SUBMITTED", "waiting", []),
        ("TASK_STATE_WORKING", "running", []),
        ("TASK_STATE_INPUT_REQUIRED", "waiting", ["human"]),
        ("TASK_STATE_AUTH_REQUIRED", "waiting", ["auth"]),
        ("TASK_STATE_UNSPECIFIED", None, []),
        ("Working", "running", []),
        ("input_required", "waiting", ["human"]),
        ("inputRequired", "waiting", ["human"]),
        ("Auth required", "waiting", ["auth"]),
        ("TaskState.input_required", "waiting", ["human"]),
        ("TaskState.TASK_STATE_WORKING", "running", []),
        ("TaskState.unknown", None, []),
        ("working hard", None, []),
    ],
)
def test_states_of_a2a(bench: Bench, told: str, status: str, waits: list[str]) -> None:
    bench.beat(tasks=tasks("t", status=told))
    (task,) = bench.part.tasks
    assert (task.status, [wait.kind for wait in task.waits]) == (status, waits)
    assert bench.status == "active"


def test_a_reported_wait_is_not_implied_again(bench: Bench) -> None:
    told = [{"kind": "human", "name": "Ann"}]
    bench.beat(tasks=tasks("t", status="input-required", waits=told))
    assert [(wait.kind, wait.name) for wait in bench.part.tasks[0].waits] == [("human", "Ann")]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "running"),
        ({"waits": [{"kind": "llm"}]}, "waiting"),
        ({"wait_count": 1}, "waiting"),
        ({"waits": [{"kind": "llm"}], "status": "running"}, "running"),
        ({"waits": [{"kind": "llm"}], "status": None}, None),
    ],
)
def test_a_task_with_open_waits_and_no_status_waits(
    bench: Bench, fields: dict[str, Any], status: str | None
) -> None:
    bench.beat(tasks=tasks("t", **fields))
    assert bench.part.tasks[0].status == status


ENDED = ["completed", "canceled", "cancelled", "failed", "rejected"]


def test_a_task_is_never_its_own_parent(bench: Bench) -> None:
    bench.beat(tasks=[*tasks("t", parent_id="t"), *tasks("u", parent_id="t")])
    assert [task.parent_id for task in bench.part.tasks] == [None, "t"]


SPELLED = [f"TASK_STATE_{one.upper()}" for one in ENDED] + [f"TaskState.{one}" for one in ENDED]


@pytest.mark.parametrize("status", [*ENDED, *SPELLED])
def test_tasks_that_are_over_leave(bench: Bench, status: str) -> None:
    bench.beat(tasks=tasks("t", status=status))
    assert (bench.part.tasks, bench.part.task_count, bench.status) == ([], 0, "idle")


def test_a_task_that_failed_is_the_last_failure(bench: Bench) -> None:
    for status in ("failed", "rejected", "TASK_STATE_FAILED", "TASK_STATE_REJECTED"):
        bench.beat(tasks=tasks(status, status=status))
        assert bench.part.last_failure is not None
        assert bench.part.last_failure.task_id == status
    told = {"task_id": "told", "error": "Timeout", "at": at(1)}
    bench.beat(last_failure=told, tasks=tasks("t", status="failed"))
    bench.beat()  # nothing new: the last failure stays
    assert bench.part.last_failure is not None
    assert msgspec.to_builtins(bench.part.last_failure) == told | {"at": "2030-01-01T00:00:01Z"}


def test_waits_are_sorted_oldest_first_unknown_ages_last(bench: Bench) -> None:
    waits = [
        {"kind": "tool", "name": "unknown"},
        {"kind": "llm", "name": "young", "since": at(9)},
        {"kind": "llm", "name": "old", "since": "2030-01-01T02:00:01+02:00"},
    ]
    bench.beat(tasks=tasks("t", waits=waits))
    assert [wait.name for wait in bench.part.tasks[0].waits] == ["old", "young", "unknown"]


def test_more_waits_than_are_listed_count(bench: Bench) -> None:
    waits = [{"kind": "tool", "name": str(n), "since": at(-n)} for n in range(40)]
    bench.beat(tasks=tasks("t", waits=waits))
    (task,) = bench.part.tasks
    assert [wait.name for wait in task.waits] == [str(n) for n in range(39, 23, -1)]
    assert task.wait_count == 40
    bench.beat(tasks=tasks("t", waits=waits[:2], wait_count=100))
    assert bench.part.tasks[0].wait_count == 100


def test_tasks_that_are_not_listed_count(bench: Bench) -> None:
    bench.beat(task_count=7)
    assert (bench.part.task_count, bench.status) == (7, "active")
    bench.beat(tasks=tasks("a", "b"), task_count=1)
    assert bench.part.task_count == 2


def test_every_field_of_a_beat_is_shown(bench: Bench) -> None:
    task = {
        "id": "t",
        "parent_id": "p",
        "started_on": at(-9),
        "progressed_at": at(-1),
        "step": "step",
        "waits": [{"kind": "agent", "name": "m", "since": at(-2), "task": "u"}],
        "wait_count": 1,
        "queue": "q",
        "partition": 3,
        "offset": 2**62,
        "model": "m",
    }
    bench.beat(
        namespace="n",
        pod_id="pod",
        version="1.2",
        started_at=at(-99),
        interval_seconds=2.5,
        description="plans",
        max_parallel_invocations=4,
        deployment_name="d",
        models=["m"],
        queues=["q"],
        outcomes={"completed": 3, "failed": 2, "canceled": 1},
        tasks=[task],
    )
    part = msgspec.to_builtins(bench.part, builtin_types=(datetime,))
    instance = part.pop("instance")
    assert part.pop("tasks") == [
        {**task, "status": "waiting", "stalled": False, "instance": "i", "last_known": False}
    ]
    assert part == {
        "origin": "",
        "namespace": "n",
        "description": "plans",
        "deployment_name": "d",
        "max_parallel_invocations": None,
        "models": ["m"],
        "queues": ["q"],
        "since": START,
        "task_count": 1,
        "last_failure": None,
        "problems": [],
        "workload": None,
        "pods": [],
        "has_all_pods": True,
        "pod_id": None,
        "ended": [],
        "ended_count": None,
    }
    assert instance == {
        "id": "i",
        "status": "active",
        "pod_id": "pod",
        "workload": None,
        "version": "1.2",
        "started_at": at(-99),
        "interval_seconds": 2.5,
        "silent_since": None,
        "clock_offset_seconds": None,
        "max_parallel_invocations": 4,
        "outcomes": {"completed": 3, "failed": 2, "canceled": 1},
        "lives": 1,
        "tasks_lost": 0,
        "source": "test",
    }


# the agent's clock


def offset_of(bench: Bench, ahead: float | None) -> float | None:
    now = bench.clock.now()
    bench.beat(sent_at=None if ahead is None else now + timedelta(seconds=ahead))
    assert bench.part.instance
    return bench.part.instance.clock_offset_seconds


@pytest.mark.parametrize(
    ("ahead", "seen"),
    [(None, None), (0, None), (1.99, None), (-1.99, None), (2, 2.0), (-2, -2.0), (61.27, 61.3)],
)
def test_an_offset_is_shown_from_two_seconds_on(
    bench: Bench, ahead: float | None, seen: float | None
) -> None:
    assert offset_of(bench, ahead) == seen


def test_jitter_of_the_offset_changes_nothing(bench: Bench) -> None:
    offset_of(bench, 2.5)
    puts = bench.puts
    for ahead in (2.0, 3.4, 1.6, 2.5):
        assert offset_of(bench, ahead) == 2.5
    assert bench.puts == puts
    assert offset_of(bench, 3.6) == 3.6
    assert offset_of(bench, 0.1) is None
    assert offset_of(bench, 5) == 5.0
    assert offset_of(bench, None) is None


# bounds


def full(bench: Bench, name: str, instance: str) -> HttpProblem:
    before = dict(bench.output.parts)
    with pytest.raises(HttpProblem) as caught:
        bench.beat(name, instance)
    assert caught.value.status == 429
    assert caught.value.headers == {"retry-after": "60"}
    assert bench.output.parts == before
    return caught.value


def test_agents_are_bounded() -> None:
    bench = Bench(limits=RegisterLimits(agents=1_100))
    for number in range(1_100):
        bench.beat(str(number))
    problem = full(bench, "one more", "i")
    assert "1,100 agents" in problem.detail
    assert problem.more == {"limit": 1_100}
    bench.beat("0", tasks=tasks("t"))  # those that are known go on
    bench.beat("0", "j")
    bench.register.goodbye("1", "i")
    bench.beat("one more")


def test_instances_of_an_agent_are_bounded() -> None:
    bench = Bench(limits=RegisterLimits(instances_per_agent=3))
    for number in range(3):
        bench.beat(instance=str(number))
    assert "3 instances of one agent" in full(bench, "planner", "one more").detail
    bench.beat("other")


def test_all_instances_are_bounded() -> None:
    bench = Bench(limits=RegisterLimits(instances=9))
    for number in range(9):
        bench.beat(str(number % 3), str(number))
    assert "instances" in full(bench, "3", "i").detail
    bench.register.goodbye("0", "0")
    bench.beat("3")
    full(bench, "3", "j")


# against a naive model

INTERVALS = st.sampled_from([1, 5, 60])
SEQUENCES = st.none() | st.integers(0, 9)
PROGRESS = st.none() | st.integers(0, 3)


class Naive:
    """One instance, by the rules as they are told to those who write agents; no timers."""

    def __init__(self) -> None:
        self.boots: list[str] = []
        self.sequence = -1
        self.heard = self.interval = 0
        self.progress: int | None = None
        self.began = self.moved = 0
        self.dropped = -1

    def take(
        self, now: int, boot: str, sequence: int | None, interval: int, progress: int | None
    ) -> None:
        present = self.boots[-1:] == [boot]
        if not present and boot in self.boots and not self.may_be_outlived(now):
            self.dropped = now
            return
        if present and sequence is not None and sequence <= self.sequence:
            return
        if not present:
            self.boots = [one for one in self.boots if one != boot] + [boot]
            self.began = now
            self.sequence = -1
        if not present or progress != self.progress:
            self.moved = now
        self.sequence = self.sequence if sequence is None else sequence
        self.heard, self.interval, self.progress = now, interval, progress

    def may_be_outlived(self, now: int) -> bool:
        return self.is_silent(now) and now >= self.began + 60

    def is_shared(self, now: int) -> bool:
        return self.began < self.dropped and now < self.dropped + 60

    def is_silent(self, now: int) -> bool:
        return now >= self.heard + 3 * self.interval

    def seen(self, now: int) -> tuple[str, bool, bool | None]:
        silent = self.is_silent(now)
        unknown = silent or self.progress is None
        stalled = None if unknown else now - self.moved >= 20
        return "silent" if silent else "active", silent, stalled


class RegisterMachine(RuleBasedStateMachine):
    """Beats of two instances in any order, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(stall_after=20, forget_after=1000 * HOUR)
        self.model: dict[str, Naive] = {}
        self.buried: dict[tuple[str, str], int] = {}
        self.now = 0

    @rule(
        instance=st.sampled_from("ij"),
        boot=st.sampled_from("abc"),
        sequence=SEQUENCES,
        interval=INTERVALS,
        progress=PROGRESS,
    )
    def beat(
        self, instance: str, boot: str, sequence: int, interval: int, progress: int | None
    ) -> None:
        moved = None if progress is None else at(progress)
        self.bench.beat(
            instance=instance,
            boot_id=boot,
            sequence=sequence,
            interval_seconds=interval,
            tasks=tasks("t", progressed_at=moved),
        )
        if instance in self.model or self.now >= self.buried.get((instance, boot), 0):
            naive = self.model.setdefault(instance, Naive())
            naive.take(self.now, boot, sequence, interval, progress)

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.bench.clock.advance(seconds)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def goodbye(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(sorted(self.model)))
        self.bench.register.goodbye("planner", instance)
        naive = self.model.pop(instance)
        for boot in [] if naive.is_shared(self.now) else naive.boots:
            self.buried[instance, boot] = self.now + 60

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        seen = {
            part.instance.id: (part.instance.status, task.last_known, task.stalled)
            for part in self.bench.parts
            for task in part.tasks
            if part.instance
        }
        assert seen == {id: naive.seen(self.now) for id, naive in self.model.items()}

    @invariant()
    def every_instance_has_one_timer(self) -> None:
        assert self.bench.clock.waiting() == len(self.model)


TestRegister = RegisterMachine.TestCase
TestRegister.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
