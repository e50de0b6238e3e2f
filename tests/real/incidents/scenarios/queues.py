"""Incidents whose root is a queue."""

import time

from tests.real.incidents.agents import Instance
from tests.real.incidents.scenario import Ref, agent, queue, scenario, workload
from tests.real.incidents.times import ago
from tests.real.incidents.view import waits_for
from tests.real.incidents.world import World


@scenario(
    "critical",
    roots=[queue("research", "researcher", "$task")],
    accepted=[
        agent("researcher", "$task"),
        queue("research", "researcher", "$partition"),
        agent("researcher", "$instance"),
    ],
    effects=[workload("researcher"), agent("researcher"), queue("research", "researcher")],
)
async def poison_task(w: World) -> None:
    """One record crashes every life of the researcher that reads it.

    Its partition's offset does not move, its pod restarts again and again.
    After taskiq-python/taskiq-aio-pika#35.
    """
    instance = w.instances("researcher")[0]
    partition = await emptied(w, instance)
    poison = w.record("research")
    w.broker.produce("research", poison, partition)
    w.surge["research"] = 1.3
    w.each_tick.append(Crashes(instance, poison["id"]).tick)
    w.facts |= {"task": poison["id"], "instance": instance.name, "partition": str(partition)}
    w.shows(
        "the partition lags and does not move",
        lambda v: any(
            one["partition"] == partition and one["lag"] >= 3
            for one in v.queue("research")["lagging"]
        ),
    )
    w.shows("it is the oldest", lambda v: v.queue("research")["tasks"][0]["id"] == poison["id"])
    w.shows("the pod restarts", lambda v: v.pod(instance.pod.name)["restarts"] >= 3)


async def emptied(w: World, instance: Instance) -> int:
    """Let a member work off its first partition, and return which one that is."""
    assert instance.member
    group, partition = instance.member.group, instance.member.partitions()[0]
    w.paused.add(group.topic.name)
    while group.waiting(partition):
        await w.tick()
    w.paused.discard(group.topic.name)
    return partition


class Crashes:
    """An instance that fails on one task, and ends two seconds later."""

    def __init__(self, instance: Instance, task: str) -> None:
        self.instance, self.task = instance, task
        self._ends_at: int | None = None

    def tick(self, number: int) -> None:
        """Let a second pass."""
        found = next((one for one in self.instance.tasks if one.id == self.task), None)
        if self._ends_at is not None and number >= self._ends_at:
            self._ends_at = None
            restart(self.instance)
        elif found and time.time() - found.started > 3:
            self.instance.fail(found, "JSONDecodeError", commits=False)
            self._ends_at = number + 2


def restart(instance: Instance) -> None:
    """Its container ends and is back at once, for its group the member that it was."""
    instance.pod.exit("Error", 1)
    instance.pod.workload.sync()
    instance.be_born()
    assert instance.member
    instance.member.group.disown(instance.member)


def add_a_topic(w: World) -> None:
    """A topic that no group reads."""
    w.broker.add("plans-v2", 2, None)


@scenario(
    "critical",
    setup=add_a_topic,
    roots=[Ref("queues", "kafka/plans-v2/-")],
    accepted=[workload("orchestrator")],
    effects=[agent("orchestrator"), queue("requests", "orchestrator")],
)
async def renamed_topic(w: World) -> None:
    """The new orchestrator writes its plans to the topic plans-v2; planner still reads plans.

    Nothing fails, nothing moves. After atlanhq/application-sdk#3440.
    """
    orchestrator = w.workload("orchestrator")
    orchestrator.roll("registry.example/atlas/orchestrator:5.0.0")
    for pod in orchestrator.pods:
        pod.hash, pod.image = orchestrator.hash, orchestrator.image
    orchestrator.sync()
    w.paused.add("plans")
    w.blocked.add(("agent", "planner"))

    def plan(number: int) -> None:
        if number % 3 == 0:
            w.broker.produce("plans-v2", w.record("plans", invoked_by="orchestrator"))

    w.each_tick.append(plan)
    w.shows(
        "orchestrator's tasks stall in waits for planner",
        lambda v: sum(waits_for(one, "agent", "planner") for one in v.stalled("orchestrator")) >= 2,
    )
    w.shows("planner is idle", lambda v: v.agent("planner")["status"] == "idle")
    w.shows("the new topic has records", lambda v: v.queue("plans-v2")["updated_at"])


@scenario(
    "critical",
    roots=[queue("reviews", "reviewer")],
    effects=[agent("writer")],
    beside=[agent("reviewer")],
)
async def records_lost(w: World) -> None:
    """Reviewer was too slow for a day, and retention deleted 60 reviews that it had not read.

    Those tasks will never be done.
    """
    group = w.group("reviews")
    for instance in w.instances("reviewer"):
        instance.slowness = 4.0
    w.paused.add("reviews")
    for partition in [0, 1] * 45:
        w.broker.produce("reviews", w.record("reviews", submitted_at=ago(90_000)), partition)
    await w.run(3)
    first = {partition: group.committed[partition] + 30 for partition in range(2)}
    await w.broker.delete_records("reviews", first)
    group.next = [max(group.next[partition], first[partition]) for partition in range(2)]
    w.shows(
        "records were lost",
        lambda v: any(one["reason"] == "RecordsLost" for one in v.queue("reviews")["problems"]),
    )
    w.shows("the others still wait", lambda v: v.queue("reviews")["depth"] >= 20)
