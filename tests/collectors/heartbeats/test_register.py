"""The register: which instances are known, and how long."""

from datetime import datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from telemetron.http import HttpProblem
from telemetron_collectors.heartbeats.register import RegisterLimits
from tests.collectors.heartbeats.bench import HOUR, Bench, Clock, at, shown, tasks

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
