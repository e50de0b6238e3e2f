"""Decoys: they look like trouble, and are none."""

import time

from tests.real.incidents.agents import Instance, Phase
from tests.real.incidents.scenario import scenario
from tests.real.incidents.scenarios import noise
from tests.real.incidents.times import ago
from tests.real.incidents.view import View, waits_for
from tests.real.incidents.workload import Workload
from tests.real.incidents.world import World

HOUR = 3600.0


@scenario("none")
async def waits_for_a_human(w: World) -> None:
    """Two tasks wait for people: an approval for three hours, an input since this morning."""
    planner, coder = w.instances("planner")[0], w.instances("coder")[0]
    approval = w.task(planner, [Phase("await approval", "human", "legal-approval", 3)])
    approval.freeze(3 * HOUR).status = "waiting"
    input = w.task(coder, [Phase("ask for the branch")])
    input.freeze(6 * HOUR).status = "input-required"
    planner.tasks.append(approval)
    coder.tasks.append(input)
    tasks = [approval.id, input.id]
    w.shows("both wait", lambda v: all(v.task(id)["status"] == "waiting" for id in tasks))
    w.shows("for a human", lambda v: all(waits_for(v.task(id), "human") for id in tasks))
    w.shows("and do not progress", lambda v: v.task(approval.id)["stalled"])


def fall_asleep(w: World) -> None:
    """Nothing is asked of anything."""
    for role in w.roles.values():
        role.busy = 0.0
    for deployment in w.proxy.deployments.values():
        deployment.ok = 0.0


@scenario("none", setup=fall_asleep)
async def quiet_night(w: World) -> None:
    """It is three in the morning: no task, no call of a model, no offset that moves."""
    w.shows("idle agents", lambda v: {one["status"] for one in v.state["agents"]} == {"idle"})
    topics = [*w.broker.groups]
    w.shows("empty queues", lambda v: {v.queue(one)["depth"] for one in topics} == {0})
    w.shows("with consumers", lambda v: all(v.queue(one)["consumers"] for one in topics))
    w.shows(
        "unknown models", lambda v: {one["status"] for one in v.state["litellm"]} == {"unknown"}
    )


def hurry(w: World) -> None:
    """A researcher needs 3 s for a task."""
    for phase in w.roles["researcher"].phases:
        phase.seconds = 1


@scenario("none", setup=hurry)
async def draining_backlog(w: World) -> None:
    """A nightly import put 1,500 research tasks into the queue; they are worked off as planned."""
    w.paused.add("research")
    planned = {"invoked_by": "nightly-import", "priority": "low", "submitted_at": ago(1200)}
    for _ in range(1500):
        w.broker.produce("research", w.record("research", **planned))
    depths: list[int] = []

    def shrinks(v: View) -> bool:
        depths.append(v.queue("research")["depth"])
        return 300 <= depths[-1] <= max(depths) - 15

    w.shows("hundreds wait, and fewer and fewer", shrinks)
    w.shows("offsets move", lambda v: v.queue("research")["consumed_at"])


@scenario("none")
async def rolling_update(w: World) -> None:
    """Writer is updated pod by pod, again and again: goodbyes are sent, its queue is served."""
    writer = w.workload("writer")
    w.each_tick.append(Rollout(w, writer).tick)
    w.shows("it goes on", lambda v: v.workload("writer")["live"]["rollout"] == "progressing")
    w.shows(
        "an old pod ends",
        lambda v: any(pod["reason"] == "Terminating" for pod in v.workload("writer")["pods"]),
    )
    w.shows("two pods are ready", lambda v: v.workload("writer")["live"]["ready"] >= 2)
    w.shows("its queue is served", lambda v: v.queue("sections")["consumers"] >= 2)


class Rollout:
    """Every 12 s one pod is replaced; after the last one a new revision begins."""

    def __init__(self, world: World, workload: Workload) -> None:
        self.world, self.workload = world, workload
        self.instances = world.instances(workload.name)
        self._steps = {0: self._add, 4: self._begin, 6: self._let_go, 11: self._end}
        self._is_under_way = False

    def tick(self, number: int) -> None:
        """Let a second pass."""
        step = self._steps.get(number % 12)
        if step and (self._is_under_way or step == self._add):
            self._is_under_way = True
            step()
            self.workload.sync()

    def _add(self) -> None:
        if all(pod.hash == self.workload.hash for pod in self.workload.pods):
            self.workload.roll(f"registry.example/atlas/writer:4.18.{self.world.id('rc')}")
        self._new = self.workload.add_pod()
        self._new.created = time.time()
        self._new.wait("ContainerCreating", "")

    def _begin(self) -> None:
        self._new.run()
        self._new.has_metrics = True
        self.instances.append(Instance(self.world, self.instances[0].role, self._new))

    def _let_go(self) -> None:
        self._old = next(one for one in self.instances if one.pod.hash != self.workload.hash)
        self._old.pod.is_deleting, self._old.pod.ready = True, False
        self._old.takes = False

    def _end(self) -> None:
        self.instances.remove(self._old)
        self.world.broker.begin(self._old.leave())
        self._old.pod.delete()


@scenario("none")
async def old_scars(w: World) -> None:
    """A pod was OOMKilled five days ago, two have restarted now and then, and all are well.

    An agent remembers a failure of last week.
    """
    noise.scar(w)
    pod = w.workload("planner").pods[0].name
    w.shows("the old end", lambda v: v.pod(pod)["last_exit"]["reason"] == "OOMKilled")
    w.shows("its pod is ready", lambda v: v.pod(pod)["ready"])
    w.shows(
        "the old failure",
        lambda v: v.agent("reviewer")["activity"]["last_failure"]["task_id"] == "rev-101",
    )


@scenario("none")
async def killed_scale_down(w: World) -> None:
    """Two workloads are scaled down; idle processes are killed, without goodbyes."""
    w.surge["browse"] = 0.3
    for name in ("summarizer", "browser"):
        instance = w.instances(name)[0]
        await emptied(w, instance)
        instance.kill()
        instance.pod.delete()
        w.workload(name).replicas = 1
        w.workload(name).sync()
    w.shows("one pod is left", lambda v: len(v.workload("browser")["pods"]) == 1)
    w.shows("one is silent", lambda v: v.agent("summarizer")["silent_count"] == 1)


async def emptied(w: World, instance: Instance) -> None:
    """Let an instance end its tasks, and take no others."""
    instance.takes = False
    while instance.tasks:
        await w.tick()
    await w.run(2)


@scenario("none")
async def scaled_to_zero_while_idle(w: World) -> None:
    """An autoscaler has scaled coder to zero, as its queue is empty."""
    w.paused.add("code")
    group = w.group("code")
    while any(map(group.waiting, range(group.topic.partitions))):
        await w.tick()
    await w.run(2)
    coder = w.workload("coder")
    coder.replicas = 0
    for instance in w.agents.pop("coder"):
        await instance.leave()
        instance.pod.delete()
    coder.sync()
    w.shows("no pod is wanted", lambda v: v.workload("coder")["live"]["desired"] == 0)
    w.shows("its queue is empty", lambda v: v.queue("code")["depth"] == 0)
    w.shows("and has no consumers", lambda v: v.queue("code")["consumers"] == 0)


def add_topics(w: World) -> None:
    """Topics that no group reads."""
    w.broker.add("audit-events", 3, None)
    w.broker.add("research.dlq", 1, None)


@scenario("none", setup=add_topics)
async def unread_topics(w: World) -> None:
    """No group reads audit events and dead letters, on purpose; records come."""
    topics = {"audit-events": 6, "research.dlq": 9}

    def produce(number: int) -> None:
        for topic, every in topics.items():
            if number % every == 0:
                w.broker.produce(topic, w.record(topic))

    w.each_tick.append(produce)
    for topic in topics:
        w.shows(f"{topic} gets records", lambda v, topic=topic: v.queue(topic)["produced_at"])


@scenario("none")
async def restart_of_many(w: World) -> None:
    """Five workloads are restarted at once; each pod is replaced, with goodbyes."""
    names = ("planner", "writer", "summarizer", "browser", "retriever")
    for name in names:
        workload, old = w.workload(name), w.instances(name)
        workload.roll(workload.image)
        pods = [workload.add_pod() for _ in old]
        for instance in old:
            await instance.leave()
            instance.pod.delete()
        w.agents[name] = [Instance(w, w.roles[name], pod) for pod in pods]
        workload.sync()
    w.shows("all are ready", lambda v: all(v.workload(one)["live"]["ready"] for one in names))
    w.shows("queues are served", lambda v: v.queue("sections")["consumers"] == 3)


@scenario("none")
async def slow_start(w: World) -> None:
    """A new workload with a large image: its pods need 40 s to start."""
    reranker = Workload(w.cluster, "reranker", 6)
    for pod in reranker.pods:
        pod.created = time.time()
        pod.wait("ContainerCreating", "")
    reranker.sync()

    def run(number: int) -> None:
        for pod in reranker.pods:
            if pod.phase == "Pending" and time.time() - pod.created > 40:
                pod.run()
                pod.has_metrics = True
                reranker.sync()

    w.each_tick.append(run)
    w.shows("six pods start", lambda v: len(v.workload("reranker")["pods"]) == 6)
