"""A state machine: tasks move through a queue and agents; each answer against a plain model."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telemetron.answers.task import answer
from telemetron.collector import Collector, Config
from telemetron.document import PendingTask, Queue
from telemetron.search import QueueRecord, SearchedRange, SearchResult, TaskQuery, TaskSighting
from telemetron.service.outputs import BoundOutput, Mounts
from telemetron_collectors.heartbeats.beat import Beat, BeatEnd, BeatTask
from telemetron_collectors.heartbeats.register import Register
from tests.telemetron.answers.whereabouts import Whereabouts

IDS = ["t-0", "t-1", "t/2", "ü"]
INSTANCES = [("writer", "w-0"), ("writer", "w-1"), ("editor", "e-0")]
SHOWN = 2
"""Tasks of the queue that the document lists."""
LOOK = 3
SILENCE = 16.0
HIDDEN = 3
"""Tasks that an instance counts and does not list."""


class Run:
    """A task that an instance has taken."""

    def __init__(self, record: QueueRecord) -> None:
        self.record = record
        self.step = 0


class Process:
    """One instance of an agent."""

    def __init__(self, agent: str, id: str) -> None:
        self.agent, self.id = agent, id
        self.boot = self.sequence = 0
        self.runs: dict[str, Run] = {}
        self.ends: list[BeatEnd] = []
        self.is_silent = self.is_gone = self.is_cut = False


class TaskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.system = Whereabouts(recent_weight=12, open_weight=7)
        store = self.system.store
        collector = Collector(
            name="heartbeats",
            description="",
            config=Config,
            sections=("agents",),
            max_age_seconds=lambda config: 30,
            run=lambda config, output: output.clock.sleep(0),
        )
        output = BoundOutput(store, self.system.sources["heartbeats"], collector, Mounts())
        self.register = Register(output, stall_after=1e6, forget_after=1e6)
        self.processes = [Process(*named) for named in INSTANCES]
        self.log: list[str] = []
        """The id of each record of the queue, by offset."""
        self.committed = 0
        self.fates: dict[str, str] = {}
        """How the last run of each task went: `active`, `ended`, `lost`."""
        self.ended: set[QueueRecord] = set()
        self.is_reachable = True

    def teardown(self) -> None:
        self.register.close()
        self.system.close()

    @initialize()
    def begin(self) -> None:
        for process in self.processes:
            self.beat(process)
        self.publish()

    # what happens

    def settle(self) -> None:
        for _ in range(4):
            self.system.flush(0.1)

    def beat(self, process: Process) -> None:
        process.sequence += 1
        listed = [
            BeatTask(id=id, step=str(run.step), **run.record._asdict())
            for id, run in process.runs.items()
        ]
        hidden = HIDDEN if process.is_cut else 0
        beat = Beat(
            instance=process.id,
            boot_id=str(process.boot),
            sequence=process.sequence,
            interval_seconds=5.0,
            namespace="prod",
            tasks=listed,
            task_count=len(listed) + hidden,
            ended=process.ends,
        )
        self.register.beat(process.agent, beat)
        process.ends = []
        process.is_silent = process.is_gone = False
        self.settle()

    def publish(self) -> None:
        waiting = list(range(self.committed, len(self.log)))
        tasks = [PendingTask(id=self.log[at], partition=0, offset=at) for at in waiting[:SHOWN]]
        cut = {"tasks": len(waiting)} if len(waiting) > SHOWN else None
        self.system.put(
            "kafka",
            "queues",
            "q",
            Queue(name="q", consumer_group="g", depth=len(waiting), tasks=tasks, truncated=cut),
        )

    def live(self) -> list[Process]:
        return [one for one in self.processes if not (one.is_silent or one.is_gone)]

    @rule(id=st.sampled_from(IDS), fill=st.integers(0, 4))
    def submit(self, id: str, fill: int) -> None:
        self.log += [f"other-{len(self.log) + at}" for at in range(fill)]
        self.log.append(id)
        self.publish()

    @rule(data=st.data())
    def take(self, data: Any) -> None:
        running = {run.record.offset for one in self.processes for run in one.runs.values()}
        free = [at for at in range(self.committed, len(self.log)) if at not in running]
        if free and self.live():
            process = data.draw(st.sampled_from(self.live()))
            at = data.draw(st.sampled_from(free))
            if self.log[at] in process.runs:
                return  # an instance lists each id once
            process.runs[self.log[at]] = Run(QueueRecord("q", 0, at))
            self.ended.discard(QueueRecord("q", 0, at))
            self.beat(process)

    def pick(self, data: Any) -> tuple[Process, str] | None:
        held = [(one, id) for one in self.live() for id in one.runs]
        return data.draw(st.sampled_from(held)) if held else None

    @rule(data=st.data())
    def progress(self, data: Any) -> None:
        if picked := self.pick(data):
            process, id = picked
            process.runs[id].step += 1
            self.beat(process)

    @rule(
        data=st.data(),
        status=st.sampled_from(["completed", "failed", None]),
        commit=st.booleans(),
    )
    def end(self, data: Any, status: str | None, commit: bool) -> None:
        """A task ends; with no status, its agent does not report how."""
        if picked := self.pick(data):
            process, id = picked
            run = process.runs.pop(id)
            if status:
                end = BeatEnd(id=id, status=status, ended_at=self.system.clock.now())
                process.ends.append(msgspec.structs.replace(end, **run.record._asdict()))
            self.ended.add(run.record)
            self.fates[id] = "ended"
            self.beat(process)
            if commit and run.record.offset == self.committed:
                self.commit(1)

    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        self.committed = min(len(self.log), self.committed + count)
        self.publish()

    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        process = data.draw(st.sampled_from(self.processes))
        if not process.is_gone:
            self.lose(process)
            process.boot += 1
            process.sequence = 0
            self.beat(process)

    @rule(data=st.data())
    def goodbye(self, data: Any) -> None:
        process = data.draw(st.sampled_from(self.processes))
        if not process.is_gone:
            self.register.goodbye(process.agent, process.id)
            self.lose(process)
            process.is_gone, process.is_silent = True, False
            process.boot += 1
            self.settle()

    def lose(self, process: Process) -> None:
        for id in process.runs:
            self.fates[id] = "lost"
        process.runs.clear()
        process.is_cut = False

    @rule(data=st.data())
    def start_again(self, data: Any) -> None:
        gone = [one for one in self.processes if one.is_gone]
        if gone:
            process = data.draw(st.sampled_from(gone))
            process.sequence = 0
            self.beat(process)

    @rule(data=st.data())
    def fall_silent(self, data: Any) -> None:
        if self.live():
            silent = data.draw(st.sampled_from(self.live()))
            for _ in range(4):
                self.system.clock.advance(SILENCE / 4)
                for process in self.live():
                    if process is not silent:
                        self.beat(process)
            silent.is_silent = True
            self.settle()

    @rule(data=st.data())
    def beat_again(self, data: Any) -> None:
        silent = [one for one in self.processes if one.is_silent]
        if silent:
            self.beat(data.draw(st.sampled_from(silent)))

    @precondition(lambda self: self.live())
    @rule(data=st.data(), is_cut=st.booleans())
    def cut(self, data: Any, is_cut: bool) -> None:
        process = data.draw(st.sampled_from(self.live()))
        process.is_cut = is_cut
        self.beat(process)

    @rule(is_ok=st.booleans())
    def judge(self, is_ok: bool) -> None:
        source = self.system.sources["kafka"]
        source.confirm() if is_ok else source.trouble("", "Unreachable", "no answer")
        self.is_reachable = is_ok
        self.system.flush()

    # what the collector answers

    def search(self, query: TaskQuery) -> SearchResult:
        if not self.is_reachable:
            return SearchResult(unchecked=["no answer"])
        sightings = [
            self.sighting(one.offset) for one in query.records if one.offset < len(self.log)
        ]
        first, end = self.committed, len(self.log)
        next = min(end, first + query.look)
        sightings += [self.sighting(at) for at in range(first, next) if self.log[at] == query.id]
        why = None if next == end else "the look ended"
        span = SearchedRange(queue="q", partition=0, first=first, next=next, end=end, why=why)
        return SearchResult(sightings=sightings, searched=[span] if query.look else [])

    def sighting(self, at: int) -> TaskSighting:
        status = "pending" if at >= self.committed else "consumed"
        ahead = at - self.committed if status == "pending" else None
        return TaskSighting(
            queue="q",
            consumer_group="g",
            partition=0,
            offset=at,
            status=status,
            ahead=ahead,
            task=PendingTask(id=self.log[at], partition=0, offset=at),
        )

    # what is true

    def truth(self, id: str) -> str:
        holders = [one for one in self.processes if id in one.runs]
        if any(not one.is_silent for one in holders):
            return "active"
        if holders and self.fates.get(id) != "ended":
            return "lost"
        records = [at for at, one in enumerate(self.log) if one == id]
        if any(at >= self.committed and not self.has_ended(at) for at in records):
            return "waiting"
        return self.fates.get(id, "unknown")

    def has_ended(self, at: int) -> bool:
        return QueueRecord("q", 0, at) in self.ended

    def check(self, text: str, id: str) -> None:
        draft = self.system.draft(text)
        query = draft.query(LOOK)
        results = {"kafka": self.search(query)} if query else {}
        if seen := draft.news(results):
            draft = self.system.draft(text, seen)  # as the endpoint does: a record has got its id
        found = answer(draft, results, query)
        word = found.body["where"]
        truth = self.truth(id)
        if word != truth:
            said = found.body, truth
            assert word in ("unknown", "ended", "lost"), said
            # Only its queue knows which task was in a record that is committed.
            is_record = text != id and not self.is_reachable
            assert is_record or self.may_hide(id, truth), said
            assert word != "unknown" or found.body["unchecked"], said
        if found.is_nothing:
            assert truth == "unknown", found.body  # at most consumed, and no agent ran it
        for one in found.body.get("unchecked", ()):
            assert self.is_true(one), one
        for one in found.body.get("waiting", ()):
            at = one["offset"]
            assert (self.log[at], at >= self.committed) == (id, True)
            assert one.get("ahead", at - self.committed) == at - self.committed
        holders = {one.id for one in self.processes if id in one.runs and not one.is_silent}
        assert {one["instance"] for one in found.body.get("active", ())} == holders
        times = [one["at"] for one in found.body.get("timeline", ())]
        assert times == sorted(times)

    def may_hide(self, id: str, truth: str) -> bool:
        """Whether the truth may be out of sight: beyond the lists, or behind a cut one."""
        if truth == "waiting":
            waiting = [at for at in range(self.committed, len(self.log)) if self.log[at] == id]
            seen = SHOWN if not self.is_reachable else max(SHOWN, LOOK)
            beyond = [at for at in waiting if at >= self.committed + seen]
            return bool(beyond) or self.fates.get(id) == "ended"
        return truth == "ended" and any(one.is_cut for one in self.processes)

    def is_true(self, doubt: dict[str, str]) -> bool:
        of, why = doubt["of"], doubt["why"]
        waiting = len(self.log) - self.committed
        if of == "kafka":
            return not self.is_reachable
        if of in ("queues/kafka/q/g", "queue q"):
            return waiting > SHOWN or "searched" in why
        if of.startswith("agents/") and "are listed" in why:
            name = of.rpartition("/")[2]
            return any(one.is_cut for one in self.processes if one.agent == name)
        return of.startswith("agents/") and "last seen" in why

    @invariant()
    def each_answer_is_true(self) -> None:
        for id in [*IDS, "never"]:
            self.check(id, id)
        for at in {0, self.committed, len(self.log) - 1} & {*range(len(self.log))}:
            if self.log.count(self.log[at]) == 1:
                self.check(f"q/0/{at}", self.log[at])


TestTasks = TaskMachine.TestCase
TestTasks.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
