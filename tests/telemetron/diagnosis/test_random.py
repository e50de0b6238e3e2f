"""Random healthy systems raise no alarm, and a random single fault raises one, at its root."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.document import Failure, LastExit, Outcomes, Pod, Wait
from tests.telemetron.diagnosis.system import System, alarms


class Service:
    """A workload whose pods are instances of an agent that reads a queue and calls a model."""

    def __init__(self, system: System, number: int, size: int) -> None:
        self.system = system
        self.name = f"s{number}"
        self.queue = f"q{number}"
        self.key = f"kubernetes/prod/Deployment/{self.name}"
        self.pods: dict[str, Pod] = {}
        self.made = self.done = self.failed = 0
        self.depth = 0
        for _ in range(size):
            self.add()
        self.show()

    def add(self, **fields: Any) -> str:
        self.made += 1
        name = f"{self.name}-{self.made}"
        node = f"node-{self.made % 2}"
        self.pods[name] = self.system.pod(
            name, ip=f"10.{self.name[1:]}.0.{self.made}", node=node, **fields
        )
        return name

    def change(self, name: str, **fields: Any) -> None:
        self.pods[name] = msgspec.structs.replace(self.pods[name], **fields)

    def remove(self, name: str) -> None:
        del self.pods[name]
        self.system.goodbye(name)

    @property
    def ready(self) -> list[str]:
        return [name for name, pod in self.pods.items() if pod.ready]

    def show(self, *, silent: str | None = None, tasks: bool = True, **fields: Any) -> None:
        """As its sources say: it works, unless `fields` of the queue say else."""
        system = self.system
        system.workload(self.name, *self.pods.values(), rollout="progressing")
        for name in self.ready:
            self.done += 1
            made = [system.task(f"t-{name}-{self.done}", queue=self.queue)] if tasks else []
            system.agent(
                self.name,
                *made,
                instance=name,
                status="silent" if name == silent else None,
                pod=name,
                workload=self.key,
                queues=[self.queue],
                models=["model"],
                outcomes=Outcomes(self.done, self.failed),
                last_failure=Failure(task_id="old", error="TimeoutError", at=system.ago(60))
                if self.failed
                else None,
            )
        known = {"consumers": len(self.ready), "consumed_at": system.clock.now()}
        system.queue(self.queue, self.name, **{**known, "depth": self.depth, **fields})


Step = Callable[[Service], Awaitable[None]]


async def roll(service: Service) -> None:
    new = service.add(status="Pending", ready=False, reason="ContainerCreating")
    service.show()
    await service.system.after(8)
    service.change(new, status="Running", ready=True, reason=None)
    old = next(iter(service.pods))
    service.change(old, ready=False, reason="Terminating")
    service.show()
    await service.system.after(5)
    service.remove(old)
    service.show()


async def scale_down(service: Service) -> None:
    if len(service.ready) > 1:
        service.remove(service.ready[0])
    service.show()
    await service.system.after(5)


async def restart_once(service: Service) -> None:
    end = LastExit(reason="Error", exit_code=1, at=service.system.clock.now(), container="main")
    service.change(service.ready[0], restarts=1, last_exit=end)
    service.show()
    await service.system.after(3)


async def rest(service: Service) -> None:
    for _ in range(4):
        service.show(tasks=False)
        await service.system.after(10)


async def drain(service: Service) -> None:
    service.depth = 400
    while service.depth > 0:
        service.show()
        await service.system.after(3)
        service.depth -= 50
    service.depth = 0


async def miss_a_beat(service: Service) -> None:
    service.show(silent=service.ready[0])
    await service.system.after(5)
    service.show()


async def fail_now_and_then(service: Service) -> None:
    for _ in range(4):
        service.done += 5
        service.failed += 1
        service.show()
        await service.system.after(4)


async def cool_down(service: Service) -> None:
    service.system.model("b", "model", status="cooling_down")
    service.show()
    await service.system.after(20)
    service.system.model("b", "model")


async def ask_a_human(service: Service) -> None:
    system = service.system
    wait = Wait(kind="human", name="approval", since=system.ago(9000))
    system.agent("asker", system.task("asks", wait, stalled=True, status="waiting"))
    await system.after(10)


async def look_away(service: Service) -> None:
    service.system.sources["kafka"].trouble("", "Timeout", "slow")
    await service.system.after(5)
    service.system.sources["kafka"].confirm()


HEALTHY: list[Step] = [
    *(roll, scale_down, restart_once, rest, drain, miss_a_beat, fail_now_and_then),
    *(cool_down, ask_a_human, look_away),
]


SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=3)
ANY_STEPS = st.lists(st.tuples(st.sampled_from(HEALTHY), st.integers(0, 2)), max_size=12)


@settings(max_examples=5, deadline=None)
@given(sizes=SIZES, steps=ANY_STEPS)
def test_a_healthy_system_raises_no_alarm(sizes: list[int], steps: list[Any]) -> None:
    play_healthy(sizes, steps)


def play_healthy(sizes: list[int], steps: list[Any]) -> None:
    """Let services of these sizes take these steps; assert that no alarm is raised."""

    async def play() -> None:
        async with System() as system:
            services = started(system, sizes)
            for step, number in steps:
                await step(services[number % len(services)])
                assert alarms(system.findings) == [], step.__name__
            assert alarms(await system.after(30)) == []

    asyncio.run(play())


def started(system: System, sizes: list[int]) -> list[Service]:
    system.model("a", "model")
    system.model("b", "model")
    return [Service(system, number, size) for number, size in enumerate(sizes)]


def crash(service: Service) -> str:
    """All of its pods crash, its instances are silent, its queue has no consumer."""
    system = service.system
    end = LastExit(reason="OOMKilled", exit_code=137, at=system.ago(3), container="main")
    for name in service.ready:
        bad = {"reason": "CrashLoopBackOff", "restarts": 5, "last_exit": end}
        service.change(name, ready=False, **bad)
        system.agent(
            service.name,
            instance=name,
            status="silent",
            pod=name,
            workload=service.key,
            queues=[service.queue],
        )
    service.depth = 9
    service.show(group_state="Empty")
    wait = Wait(kind="queue", name=service.queue)
    system.agent("boss", system.task("waits", wait, stalled=True))
    return service.key


def hang(service: Service) -> str:
    """One of its tasks hangs in a tool."""
    system = service.system
    name = service.ready[0]
    stuck = system.task("hangs", Wait(kind="tool", name="x"), stalled=True)
    system.agent(
        service.name, stuck, instance=name, pod=name, workload=service.key, queues=[service.queue]
    )
    return f"prod/{service.name}"


def lose_the_model(service: Service) -> str:
    """No deployment of its model answers; its tasks wait for it."""
    system = service.system
    for id in ("a", "b"):
        system.model(id, "model", status="unhealthy", status_since=system.ago(3))
    for name in service.ready:
        stuck = system.task(f"w-{name}", Wait(kind="llm", name="model"), stalled=True)
        system.agent(
            service.name, stuck, instance=name, pod=name, workload=service.key, models=["model"]
        )
    return "litellm/a"


def fall_silent(service: Service) -> str:
    """One of its instances says nothing, and its pod is well."""
    service.add()
    service.show()
    name = service.ready[0]
    service.system.agent(
        service.name, instance=name, status="silent", pod=name, workload=service.key
    )
    return f"prod/{service.name}"


FAULTS: list[Callable[[Service], str]] = [crash, hang, lose_the_model, fall_silent]
FEW_STEPS = st.lists(st.tuples(st.sampled_from(HEALTHY), st.integers(0, 2)), max_size=3)


@settings(max_examples=5, deadline=None)
@given(sizes=SIZES, fault=st.sampled_from(FAULTS), before=FEW_STEPS, number=st.integers(0, 2))
def test_a_single_fault_has_one_root(
    sizes: list[int], fault: Callable[[Service], str], before: list[Any], number: int
) -> None:
    play_fault(sizes, fault, before, number)


def play_fault(
    sizes: list[int], fault: Callable[[Service], str], before: list[Any], number: int
) -> None:
    """Let one service meet the fault; assert that it is the only alarm, at its root."""

    async def play() -> None:
        async with System() as system:
            services = started(system, sizes)
            for step, at in before:
                await step(services[at % len(services)])
            expected = fault(services[number % len(services)])
            for _ in range(9):
                found = alarms(await system.after(10))
                assert len(found) <= 1
            assert [key for _, key in found] == [expected]
            seen = kept(system)
            killed = system.again(recalled=system.findings)
        async with killed as system:
            await system.after(90)
            assert kept(system) == seen  # a restart changes neither root nor time

    asyncio.run(play())


def kept(system: System) -> Any:
    """Findings with their times, and their effects with theirs."""
    return {
        one.key: (one.since, {(each.rule, each.key, each.path): each.since for each in one.effects})
        for one in system.findings
    }
