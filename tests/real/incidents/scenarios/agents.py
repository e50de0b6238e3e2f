"""Incidents whose root is an agent, an instance or a task."""

from tests.real.incidents.agents import Instance, Phase, Task
from tests.real.incidents.background import llm, tool
from tests.real.incidents.scenario import agent, model, queue, scenario, workload
from tests.real.incidents.times import ago
from tests.real.incidents.view import View, waits_for
from tests.real.incidents.world import World

DAYS = 86_400.0
GRAB_TICKS = 60


async def grabbed(w: World, role: str, kind: str, name: str) -> Task:
    """Return a task of the first instance that waits for this now."""
    instance = w.instances(role)[0]
    for number in range(GRAB_TICKS):
        for task in instance.tasks:
            if (task.phase.kind, task.phase.name) == (kind, name):
                return task
        if not instance.tasks and number % 4 == 0:
            feed(w, instance)
        await w.tick()
    raise TimeoutError(f"{role} never waits for {kind} {name}")


def feed(w: World, instance: Instance) -> None:
    """Give it a task of its own."""
    if instance.member and (mine := instance.member.partitions()):
        topic = instance.member.group.topic.name
        w.broker.produce(topic, w.record(topic), mine[0])


def thaw(w: World) -> None:
    """The hanging calls return."""
    w.blocked.clear()
    for instances in w.agents.values():
        for task in (task for instance in instances for task in instance.tasks):
            task.is_frozen = False


@scenario(
    "warning",
    roots=[agent("browser", "$task")],
    accepted=[agent("browser", "$instance")],
    end=thaw,
)
async def hung_tool_call(w: World) -> None:
    """A page never ends loading: a task of browser hangs for 25 minutes, the others go on."""
    task = (await grabbed(w, "browser", "tool", "chromium")).freeze(1500)
    w.facts |= {"task": task.id, "instance": task.instance.name}
    w.shows("it is stalled in a tool", lambda v: waits_for(v.task(task.id), "tool"))
    w.shows("nothing else is", lambda v: [one["id"] for one in v.stalled()] == [task.id])


@scenario(
    "critical",
    roots=[agent("coder", "$task")],
    accepted=[agent("tester", "$other"), agent("coder", "$instance"), agent("tester")],
    effects=[queue("code", "coder")],
)
async def deadlock(w: World) -> None:
    """Coder waits for tester's verdict, tester asks coder what to build: neither can go on."""
    asks = (await grabbed(w, "coder", "agent", "tester")).freeze(900)
    tester = w.instances("tester")[0]
    ask = Phase("ask what to build", "agent", "coder", 3)
    answers = w.task(tester, [ask], parent=asks.id).freeze(880)
    tester.tasks.append(answers)
    w.facts |= {"task": asks.id, "other": answers.id, "instance": asks.instance.name}
    w.shows("coder waits for tester", lambda v: is_stalled_for(v, asks, "tester"))
    w.shows("tester waits for coder", lambda v: is_stalled_for(v, answers, "coder"))


def is_stalled_for(v: View, task: Task, name: str) -> bool:
    """Whether a task is stalled in a wait for an agent."""
    shown = v.task(task.id)
    return bool(shown["stalled"]) and waits_for(shown, "agent", name)


@scenario(
    "warning",
    roots=[agent("researcher", "$instance")],
    accepted=[workload("researcher", "$pod")],
)
async def silent_replica(w: World) -> None:
    """One of three researchers hangs as a whole: it is silent, but its pod is Running and ready."""
    instance = w.instances("researcher")[1]
    instance.kill()
    pod = instance.pod.name
    w.facts |= {"instance": instance.name, "pod": pod}
    w.shows("it is silent", lambda v: v.instance(instance.name)["status"] == "silent")
    w.shows("its pod is well", lambda v: v.pod(pod)["ready"] and not v.pod(pod)["reason"])
    w.shows("its group goes on without it", lambda v: v.queue("research")["consumers"] == 2)


@scenario(
    "warning",
    roots=[agent("retriever")],
    accepted=[queue("retrieve", "retriever")],
    effects=[queue("retrieve", "retriever"), agent("researcher")],
)
async def overload(w: World) -> None:
    """A customer uploads an archive: retriever takes far more tasks than it says it can run.

    It is slow, and its queue grows.
    """
    w.surge["retrieve"] = 6.0
    for instance in w.instances("retriever"):
        instance.accepts, instance.slowness, instance.pod.cpu = 11, 3.0, 0.85
    parallel = sum(one.role.parallel for one in w.instances("retriever"))
    w.shows(
        "it has more tasks than it can run",
        lambda v: v.agent("retriever")["activity"]["task_count"] > parallel,
    )
    w.shows("the queue is long", lambda v: v.queue("retrieve")["depth"] >= 40)
    w.shows("and moves", lambda v: v.queue("retrieve")["consumed_at"] and not v.stalled())


@scenario(
    "warning",
    roots=[agent("orchestrator", "$instance")],
    accepted=[workload("orchestrator", "$pod"), workload("orchestrator")],
    effects=[agent("planner"), agent("orchestrator"), queue("requests", "orchestrator")],
)
async def orphan_tasks(w: World) -> None:
    """A pod of orchestrator is evicted in the middle of its requests.

    Planner's tasks for them run on, and no task will use their results.
    """
    parent = await grabbed(w, "orchestrator", "agent", "planner")
    dead = parent.instance
    children = [child_of(w, parent, w.instances("planner")[number % 2]) for number in range(3)]
    dead.kill()
    why = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51Mi."
    dead.pod.evict(why)
    orchestrator = w.workload("orchestrator")
    again = Instance(w, dead.role, orchestrator.add_pod())
    w.agents["orchestrator"].append(again)
    orchestrator.sync()
    w.facts |= {"instance": dead.name, "pod": dead.pod.name}
    w.shows("it is silent", lambda v: v.instance(dead.name)["status"] == "silent")
    w.shows("its pod was evicted", lambda v: v.pod(dead.pod.name)["reason"] == "Evicted")
    w.shows("its task is last known", lambda v: v.task(parent.id)["last_known"])
    w.shows("the children run on", lambda v: all(is_orphan(v, one, parent) for one in children))


def child_of(w: World, parent: Task, instance: Instance) -> Task:
    """A task that takes long, and that another one caused."""
    child = w.task(instance, instance.role.phases * 200, parent=parent.id)
    instance.tasks.append(child)
    return child


def is_orphan(v: View, child: Task, parent: Task) -> bool:
    """Whether a task of this parent is reported."""
    shown = v.task(child.id)
    return shown["parent_id"] == parent.id and not shown["last_known"]


@scenario(
    "warning",
    roots=[agent("reviewer", "$task")],
    accepted=[agent("summarizer", "$other"), agent("summarizer")],
    effects=[model("anthropic-sonnet"), model("bedrock-sonnet")],
)
async def endless_dialogue(w: World) -> None:
    """Two agents ask each other to improve the same text, for eleven days.

    Both progress, nothing ends, the bill grows. After multica-ai/multica#8754.
    """
    reviewer, summarizer = w.instances("reviewer")[0], w.instances("summarizer")[0]
    ask = Phase("ask summarizer to revise", "agent", "summarizer", 3)
    judge = [ask, llm("judge revision 48211", "claude-sonnet", 2)]
    revise = [llm("revise", "claude-sonnet", 3), Phase("ask reviewer", "agent", "reviewer", 2)]
    first = w.task(reviewer, judge * 5000, age=11 * DAYS)
    second = w.task(summarizer, revise * 5000, parent=first.id, age=11 * DAYS - 60)
    first.parent = second.id
    reviewer.tasks.append(first)
    summarizer.tasks.append(second)
    w.facts |= {"task": first.id, "other": second.id}
    both = {first.id: second.id, second.id: first.id}
    w.shows("both are old", lambda v: all(v.task(id)["started_on"] < ago(10 * DAYS) for id in both))
    w.shows(
        "each is the other's parent",
        lambda v: all(v.task(id)["parent_id"] == other for id, other in both.items()),
    )
    w.shows("both progress", lambda v: all(v.task(id)["stalled"] is False for id in both))


@scenario(
    "critical",
    roots=[agent("browser")],
    accepted=[queue("browse", "browser"), workload("browser")],
    effects=[queue("browse", "browser"), agent("researcher")],
)
async def no_pollers(w: World) -> None:
    """The consumer thread of both browsers has died of an exception.

    Pods are Ready, heartbeats arrive, the agents are idle, and none takes from their queue.
    After Nine-Minds/alga-psa#3408 and temporalio/sdk-python#1103.
    """
    for instance in w.instances("browser"):
        instance.takes = False
        instance.tasks.clear()
        assert instance.member
        instance.member.leave(2)
    w.shows("the queue has no members", lambda v: v.queue("browse")["consumers"] == 0)
    w.shows("it grows", lambda v: v.queue("browse")["depth"] >= 5)
    w.shows("its agent is idle", lambda v: v.agent("browser")["status"] == "idle")
    w.shows("its pods are ready", lambda v: v.workload("browser")["live"]["ready"] == 2)


def code_quickly(w: World) -> None:
    """A coder needs 3 s for a task."""
    for phase in w.roles["coder"].phases:
        phase.seconds = 1


@scenario("info", setup=code_quickly, roots=[agent("coder", "$instance")])
async def silent_but_working(w: World) -> None:
    """The heartbeats of a coder do not arrive, but it works: its partitions' offsets move.

    After jwbron/egg#3341 and Vinix24/vnx-orchestration#1464: silence is no verdict if another
    source sees life.
    """
    instance = w.instances("coder")[0]
    instance.beats, instance.pod.cpu = False, 0.7
    w.surge["code"] = 2.0
    w.facts["instance"] = instance.name
    w.shows("it is silent", lambda v: v.instance(instance.name)["status"] == "silent")
    w.shows("its pod is ready", lambda v: v.pod(instance.pod.name)["ready"])
    w.shows("its pod works", lambda v: v.pod(instance.pod.name)["cpu"] > 0.5)
    w.shows("its group has both", lambda v: v.queue("code")["consumers"] == 2)
    w.shows("offsets move", lambda v: v.queue("code")["consumed_at"] > ago(15))


@scenario(
    "warning",
    roots=[agent("researcher", "web-search")],
    accepted=[agent("translator", "web-search")],
    effects=[agent("researcher"), agent("translator"), queue("research", "researcher")],
    end=thaw,
)
async def common_tool(w: World) -> None:
    """The tool web-search hangs; researcher and translator use it."""
    translator = w.roles["translator"]
    translator.phases[:] = [tool("look up", "web-search", 2), *translator.phases]
    translator.busy = 0.95
    w.blocked.add(("tool", "web-search"))
    for name in ("researcher", "translator"):
        w.shows(f"{name}'s tasks hang in it", lambda v, name=name: v.stalled(name))


@scenario(
    "critical",
    roots=[agent("planner")],
    accepted=[queue("plans", "planner")],
    effects=[
        *(agent("planner"), agent("orchestrator")),
        *(queue("plans", "planner"), queue("requests", "orchestrator")),
    ],
)
async def slots_exhausted(w: World) -> None:
    """Planner hands sub-plans to itself: all six slots wait for sub-plans in its own queue."""
    w.blocked.add(("agent", "planner"))
    for instance in w.instances("planner"):
        instance.tasks.clear()
        for _ in range(instance.role.parallel):
            task = w.task(instance, [Phase("await sub-plan", "agent", "planner", 3)]).freeze(200)
            instance.tasks.append(task)
            w.broker.produce("plans", w.record("plans", invoked_by="planner", parent_id=task.id))
    w.shows("all slots wait", lambda v: len(v.stalled("planner")) >= 6)
    w.shows("sub-plans wait", lambda v: v.queue("plans")["depth"] >= 5)


@scenario(
    "critical",
    roots=[agent("planner")],
    accepted=[queue("plans", "planner")],
    effects=[
        *(agent("planner"), agent("orchestrator")),
        *(queue("plans", "planner"), queue("requests", "orchestrator")),
    ],
)
async def no_polls(w: World) -> None:
    """Both planners are in their group and have their partitions, but their loops do not poll."""
    for instance in w.instances("planner"):
        instance.takes = False
        instance.tasks.clear()
    w.blocked.add(("agent", "planner"))
    w.shows("it is idle", lambda v: v.agent("planner")["status"] == "idle")
    w.shows("work waits", lambda v: v.queue("plans")["depth"] >= 4)
    w.shows("in a group of two", lambda v: v.queue("plans")["consumers"] == 2)
