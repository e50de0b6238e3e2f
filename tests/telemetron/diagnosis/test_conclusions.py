"""Findings are small, say what was cut, and are the same as those of a new look at everything."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from random import Random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from telemetron.collector import Output
from telemetron.diagnosis.cases import Case
from telemetron.diagnosis.causes import Id
from telemetron.diagnosis.conclusions import Conclusions
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.document import Finding, LastExit, Wait
from tests.telemetron.diagnosis.system import NEW_YEAR, System, result
from tests.telemetron.diagnosis.test_diagnosis import dead_consumer


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def document(system: System) -> dict[str, Any]:
    """What `/system/state/findings` answers."""
    found: dict[str, Any] = json.loads(b"".join(system.store.snapshot.chunks(("findings",))))
    return found


NAMES = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=63)


@settings(max_examples=10, deadline=None)
@given(name=NAMES, pod=NAMES, queue=NAMES, agents=st.integers(1, 30))
@example("w" * 63, "p" * 63, "q" * 63, 30)
def test_a_finding_is_small_however_long_the_names_are(
    name: str, pod: str, queue: str, agents: int
) -> None:
    async def play() -> None:
        async with System() as system:
            end = LastExit(reason="OOMKilled", exit_code=137, at=system.ago(9), container="main")
            bad = {"ready": False, "reason": "CrashLoopBackOff", "restarts": 6, "last_exit": end}
            key = system.workload(name, system.pod(pod, **bad))
            system.agent(name, status="silent", pod=pod, workload=key, queues=[queue])
            system.queue(queue, name, depth=7, consumers=0, group_state="Empty")
            wait = Wait(kind="queue", name=queue)
            for number in range(agents):
                system.agent(f"a{number}", system.task(f"t-{number}-{pod}", wait, stalled=True))
            await system.after(60)
            (finding,) = document(system)["findings"]
            assert len(encoded(finding)) <= 1_500
            assert finding["effect_count"] == agents + 2
            listed = len(finding["effects"])
            cut = {"effects": agents + 2} if listed < agents + 2 else {}
            assert {**cut, **(finding["truncated"] or {})} == (finding["truncated"] or {})
            assert finding["evidence"]

    asyncio.run(play())


async def test_the_longest_names_cost_the_evidence_not_the_root() -> None:
    async with System() as system:
        instance = "i" * 256
        system.agent("a" * 256, instance=instance, status="silent")
        system.agent("a" * 256, instance="other")
        (finding,) = (await system.after(60), document(system)["findings"])[1]
        assert finding["root"]["path"] == f"instances/{instance}"
        assert len(encoded(finding)) <= 2_500
        assert finding["truncated"] == {"evidence": 1}


async def test_two_incidents_among_sixty_agents_are_told_in_two_kilobytes() -> None:
    async with System() as system:
        for number in range(57):
            system.agent(f"agent-{number}", system.task(f"t{number}"))
        dead_consumer(system)
        wait = Wait(kind="tool", name="chromium", since=system.ago(400))
        system.agent("browser", system.task("page-1234", wait, stalled=True))
        await system.after(60)
        shown = document(system)
        assert [one["rule"] for one in shown["findings"]] == ["TaskStalled", "WorkloadCrashing"]
        assert shown["sources"] == []
        assert len(encoded(shown)) <= 2_048


class Kept(Output):
    """What was put and not removed, by key."""

    def __init__(self, parts: Mapping[str, Struct] | None = None) -> None:
        self.parts = dict(parts or {})

    def put(self, section: str, group: str, id: str, part: Struct, **_: Any) -> None:
        self.parts[id] = part

    def remove(self, section: str, id: str) -> None:
        del self.parts[id]


class Play:
    """Cases that come, change and go at random, and the conclusions from them."""

    def __init__(self, seed: int, size: int, nodes: int) -> None:
        self.random = Random(seed)
        self.size, self.node_count = size, nodes
        self.cases: dict[Id, Case] = {}
        self.now = 0.0
        self.output = Kept()
        self.system = System()
        self.system.queue("q", depth=1)
        self.system.store.flush()
        self.unseen: list[str] = []
        self.conclusions = self.conclude({})

    def conclude(self, shown: dict[str, Finding], output: Output | None = None) -> Conclusions:
        return Conclusions(
            output or self.output, self.system.view(), lambda rule: [*self.unseen], shown
        )

    def nodes(self) -> list[tuple[str, ...]]:
        chance = self.random
        return [(str(chance.randrange(self.node_count)),) for _ in range(chance.randrange(3))]

    def step(self) -> None:
        """Show, withdraw, raise or end one case, or let time pass."""
        chance = self.random
        name = f"e{chance.randrange(self.size)}"
        id = ("R", "queues", name, "")
        case, ref = self.cases.get(id), ("queues", chance.choice("abc"))
        act = chance.randrange(8)
        if act == 7:
            self.now += chance.randrange(20)
            return
        if act < 4:
            symptom = self.symptom(name)
            if case is None:
                rule = Rule("R", "queues", "warning", 30, 10, "", "", "", lambda *_: iter(()))
                case = self.cases[id] = Case(rule, self.now, symptom, {}, symptom.since)
            case.show(ref, symptom, self.now)
        elif case is None:
            return
        elif act == 4:
            case.withdraw(ref, self.now)
        elif act == 5:
            case.raised_at = case.raised_at or NEW_YEAR + timedelta(seconds=self.now)
        else:
            del self.cases[id]
        self.conclusions.change(id, self.cases.get(id))

    def symptom(self, name: str) -> Symptom:
        chance = self.random
        return Symptom(
            "R",
            "queues",
            name,
            chance.choice(["one", "two"]),
            [Place("queues", "kafka/q/g", "depth")],
            since=chance.choice([None, NEW_YEAR - timedelta(minutes=chance.randrange(30))]),
            provides=self.nodes(),
            depends=self.nodes(),
            severity=chance.choice([None, "info", "critical"]),
            is_group=chance.random() < 0.2,
        )

    def compare(self) -> None:
        """Assert that the conclusions are those of a new look at all cases."""
        whole = self.conclude(self.conclusions.shown, Kept(self.conclusions.shown))
        for id, case in self.cases.items():
            whole.change(id, case)
        for one in (self.conclusions, whole):
            result(one.update(self.now))
            one.put()
        assert self.conclusions.shown == whole.shown
        assert self.conclusions.count == whole.count
        assert self.output.parts == self.conclusions.shown


def played(seed: int, size: int, nodes: int, rounds: int) -> Play:
    play = Play(seed, size, nodes)
    for number in range(rounds):
        for _ in range(play.random.randrange(size)):
            play.step()
        if number % 5 == 4:
            play.unseen = ["kafka"] if number % 2 else []
            play.conclusions.tell_again()
        play.compare()
    return play


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1_000_000))
def test_conclusions_from_what_changed_are_those_from_everything(seed: int) -> None:
    played(seed, size=8, nodes=8, rounds=20)


def test_so_they_are_while_the_worst_of_many_come_and_go() -> None:
    play = played(1, size=1_200, nodes=100_000, rounds=10)
    assert play.conclusions.count > len(play.conclusions.shown) == 200


async def test_each_begin_and_end_of_a_finding_is_logged_with_its_fields() -> None:
    from loguru import logger

    records: list[dict[str, Any]] = []
    sink = logger.add(lambda message: records.append(message.record), level="INFO")
    try:
        async with System() as system:
            dead_consumer(system)
            await system.after(60)
            (finding,) = document(system)["findings"]
    finally:
        logger.remove(sink)
    (raised,) = [one for one in records if "raised" in one["message"]]
    assert raised["extra"] == {
        "rule": finding["rule"],
        "key": finding["key"],
        "severity": finding["severity"],
    }
