"""Incidents whose root is a workload, a pod or a node."""

import time
from operator import methodcaller

from tests.real.incidents.agents import Instance
from tests.real.incidents.background import QUEUES, roles
from tests.real.incidents.cluster import NODES
from tests.real.incidents.scenario import Ref, agent, model, queue, scenario, workload
from tests.real.incidents.scenarios import noise
from tests.real.incidents.times import second_ago
from tests.real.incidents.view import View, waits_for
from tests.real.incidents.world import World

CRASH_TICKS = 15
NO_ROOM = "0/4 nodes are available: 4 Insufficient cpu. preemption: 0/4 nodes are available: 4 No"
NO_TAG = "registry.example/atlas/reviewer:4.18.0-rc3"
NO_SECRET = 'secret "coder-git-credentials" not found'


@scenario(
    "critical",
    roots=[workload("writer")],
    effects=[
        *[queue(*one) for one in QUEUES.items()],
        *map(agent, ("writer", "planner", "orchestrator")),
    ],
)
async def dead_consumer(w: World) -> None:
    """A new model context needs more memory: all writer pods are OOMKilled in a crash loop.

    Their group has no members, the queue of sections grows, and the planner's tasks wait for it.
    """
    for instance in w.instances("writer"):
        instance.kill()
    w.each_tick.append(lambda number: oom(w, "writer") if number % CRASH_TICKS == 0 else None)
    oom(w, "writer", 6)
    w.blocked.add(("queue", "sections"))
    w.shows(
        "all pods in CrashLoopBackOff after OOMKilled",
        lambda v: all(
            (pod["reason"], pod["last_exit"]["reason"]) == ("CrashLoopBackOff", "OOMKilled")
            for pod in v.workload("writer")["pods"]
        ),
    )
    w.shows("its group has no members", lambda v: v.queue("sections")["consumers"] == 0)
    w.shows("its queue grows", lambda v: v.queue("sections")["depth"] >= 6)
    w.shows(
        "planner's tasks stall in waits for the queue",
        lambda v: any(waits_for(task, "queue", "sections") for task in v.stalled("planner")),
    )
    w.shows("writer is silent", lambda v: v.agent("writer")["status"] == "silent")


def oom(w: World, name: str, restarts: int = 1) -> None:
    """All pods of a workload are OOMKilled once more."""
    for pod in w.workload(name).pods:
        pod.crash("OOMKilled", 137, restarts)
    w.workload(name).sync()


@scenario("warning", roots=[workload("reviewer")])
async def stuck_rollout(w: World) -> None:
    """A tag of reviewer that was never pushed is rolled out. The old pods still serve."""
    reviewer = w.workload("reviewer")
    reviewer.roll(NO_TAG)
    pod = reviewer.add_pod()
    pod.created = time.time() - 900
    pod.wait("ImagePullBackOff", f'Back-off pulling image "{NO_TAG}": ErrImagePull: not found')
    late = f'ReplicaSet "reviewer-{reviewer.hash}" has timed out progressing.'
    reviewer.progressing = "ProgressDeadlineExceeded", late
    reviewer.sync()
    w.shows("the rollout is stuck", lambda v: v.workload("reviewer")["live"]["rollout"] == "stuck")
    w.shows("its pod cannot pull", lambda v: v.pod(pod.name)["reason"] == "ImagePullBackOff")
    w.shows("the old pods serve", lambda v: v.workload("reviewer")["live"]["ready"] == 2)


@scenario(
    "warning",
    roots=[workload("reviewer")],
    accepted=[workload("reviewer", "$pod")],
    effects=[queue("reviews", "reviewer"), agent("reviewer")],
)
async def no_room(w: World) -> None:
    """Reviewer is scaled from two to six for a busy day, and four pods find no node: no CPU.

    The backlog grows. After reports of autoscalers that run against quotas and full nodes.
    """
    reviewer = w.workload("reviewer")
    reviewer.replicas = 6
    for _ in range(4):
        pod = reviewer.add_pod()
        pod.created = time.time() - 1800
        pod.find_no_node(f"{NO_ROOM} preemption victims found for incoming pod.")
    reviewer.sync()
    w.facts["pod"] = pod.name
    w.surge["reviews"] = 4.0
    w.shows("four pods find no node", lambda v: reasons(v, "reviewer").count("Unschedulable") == 4)
    w.shows("the queue grows", lambda v: v.queue("reviews")["depth"] >= 20)


def reasons(v: View, name: str) -> list[str | None]:
    """The reasons of a workload's pods."""
    return [pod["reason"] for pod in v.workload(name)["pods"]]


@scenario(
    "warning",
    roots=[workload("browser", "$pod")],
    accepted=[workload("browser"), agent("browser", "$instance")],
    effects=[agent("browser")],
)
async def sidecar_alive(w: World) -> None:
    """The container of one browser ended OOMKilled and stays so, but its sidecar runs on.

    The pod is Running, its agent is silent. After paradigmxyz/centaur#498.
    """
    instance = w.instances("browser")[0]
    instance.kill()
    pod = instance.pod
    pod.has_sidecar, pod.ready = True, False
    times = {"startedAt": second_ago(7000), "finishedAt": second_ago(5)}
    pod.state = {"terminated": {"reason": "OOMKilled", "exitCode": 137, **times}}
    pod.workload.sync()
    w.facts |= {"pod": pod.name, "instance": instance.name}
    w.shows("the pod is Running", lambda v: v.pod(pod.name)["status"] == "Running")
    w.shows("its container OOMKilled", lambda v: v.pod(pod.name)["reason"] == "OOMKilled")
    w.shows("it is silent", lambda v: v.instance(instance.name)["status"] == "silent")


EVERY_ROLE = [one.name for one in roles()]


@scenario(
    "critical",
    roots=[workload("$workload", "$node")],
    accepted=[workload(name, "$node") for name in (*EVERY_ROLE, "gateway")],
    effects=[
        *map(agent, EVERY_ROLE),
        *map(workload, (*EVERY_ROLE, "gateway")),
        *[queue(*one) for one in QUEUES.items()],
    ],
)
async def node_lost(w: World) -> None:
    """A node loses its network for good.

    The pods of several workloads there are given up, their agents are silent.
    """
    node = max(NODES, key=lambda one: len({lost.role.name for lost in instances_on(w, one)}))
    lost = instances_on(w, node)
    lose(w, node)
    names = {instance.name for instance in lost}
    w.facts |= {"node": node, "workload": lost[0].role.name}
    w.shows("pods of three workloads are lost", lambda v: len(workloads_lost(v, node)) >= 3)
    w.shows(
        "the instances there are silent, and no others",
        lambda v: {one["id"] for one in v.instances() if one["status"] == "silent"} == names,
    )


def instances_on(w: World, node: str) -> list[Instance]:
    """The instances whose pods are on a node."""
    return [one for found in w.agents.values() for one in found if one.pod.node == node]


def lose(w: World, node: str) -> None:
    """A node is gone, and the node controller has given its pods up."""
    why = "Kubelet stopped posting node status."
    w.cluster.set_node(node, status="Unknown", reason="NodeStatusUnknown", message=why)
    for instance in instances_on(w, node):
        instance.kill()
    for one in w.cluster.workloads.values():
        for pod in [pod for pod in one.pods if pod.node == node]:
            pod.ready, pod.phase, pod.reason = False, "Unknown", "NodeLost"
            pod.message = f"Node {node} which was running pod {pod.name} is unresponsive"
        one.sync()


def workloads_lost(v: View, node: str) -> list[str]:
    """The workloads that have a lost pod on a node."""
    lost = "NodeLost", node
    return [
        one["key"]
        for one in v.state["workload"]
        if any((pod["reason"], pod["node"]) == lost for pod in one["pods"])
    ]


@scenario(
    "critical",
    roots=[model("openai-embed-large"), workload("coder")],
    effects=[
        *(agent("retriever"), agent("coder"), agent("researcher")),
        *(queue("code", "coder"), queue("retrieve", "retriever")),
    ],
)
async def two_incidents(w: World) -> None:
    """The provider's key for embeddings is revoked; at the same time coder lacks a Secret.

    Retriever's tasks fail with 401. Coder's new version has CreateContainerConfigError, and its
    group is empty. Neither has to do with the other.
    """
    before = sum(one.outcomes["failed"] for one in w.instances("retriever"))
    revoke(w)
    await lack_a_secret(w)
    embed = methodcaller("model", "openai-embed-large")
    w.shows("the embeddings fail", lambda v: embed(v)["status"] == "unhealthy")
    w.shows("with 401", lambda v: embed(v)["last_error"]["status_code"] == 401)
    w.shows("retriever fails", lambda v: v.outcomes("retriever", "failed") >= before + 8)
    lacking = {"CreateContainerConfigError"}
    w.shows("coder's pods lack a Secret", lambda v: {*reasons(v, "coder")} == lacking)
    w.shows("its group is empty", lambda v: v.queue("code")["consumers"] == 0)
    w.shows("and work waits", lambda v: v.queue("code")["depth"] >= 2)


def revoke(w: World) -> None:
    """The provider refuses the key of the embeddings."""
    deployment = w.deployment("openai-embed-large")
    deployment.ok, deployment.fail = 0, 1.5
    deployment.error = "Openai.AuthenticationError", "401"
    w.failing["llm", "text-embedding-3-large"] = "AuthenticationError"


async def lack_a_secret(w: World) -> None:
    """Coder's new version cannot start."""
    coder = w.workload("coder")
    coder.roll("registry.example/atlas/coder:4.18.0")
    for instance in w.agents.pop("coder"):
        await instance.leave()
        instance.pod.delete()
    for _ in range(2):
        pod = coder.add_pod()
        pod.created = time.time()
        pod.wait("CreateContainerConfigError", NO_SECRET)
    coder.sync()


@scenario(
    "critical",
    roots=[Ref("workload", "kubernetes/prod/StatefulSet/qdrant")],
    effects=[agent("retriever"), agent("researcher"), queue("retrieve", "retriever")],
)
async def tool_server_down(w: World) -> None:
    """The only pod of qdrant is OOMKilled again and again: retriever's searches hang in it."""
    oom(w, "qdrant", 7)
    w.blocked.add(("tool", "qdrant"))
    w.shows("four searches hang", lambda v: len(v.stalled("retriever")) >= 4)


@scenario("critical", roots=[workload("coder")], effects=[queue("code", "coder"), agent("coder")])
async def scaled_to_zero(w: World) -> None:
    """Coder was scaled to zero by mistake, and work comes in."""
    coder = w.workload("coder")
    coder.replicas = 0
    for instance in w.agents.pop("coder"):
        await instance.leave()
        instance.pod.delete()
    coder.sync()
    w.surge["code"] = 2.0
    w.shows("its group is empty", lambda v: v.queue("code")["consumers"] == 0)
    w.shows("and work waits", lambda v: v.queue("code")["depth"] >= 2)


@scenario("critical", roots=[workload("translator")], effects=[agent("translator")])
async def evicted_and_pending(w: World) -> None:
    """The pod of the only translator was evicted, and no node takes the next one."""
    translator, instance = w.workload("translator"), w.instances("translator")[0]
    instance.kill()
    instance.pod.evict("The node was low on resource: memory.")
    pod = translator.add_pod()
    pod.created = time.time() - 60
    pod.find_no_node(f"{NO_ROOM} preemption victims found for incoming pod.")
    translator.sync()
    w.shows("no node takes it", lambda v: "Unschedulable" in reasons(v, "translator"))
    w.shows("it is silent", lambda v: v.instance(instance.name)["status"] == "silent")


@scenario("warning", roots=[Ref("workload", "kubernetes/prod/Job/import-catalog")])
async def failed_job(w: World) -> None:
    """A Job used up its retries five minutes ago."""
    noise.add_job(w, "import-catalog", 400, failures=3)
    w.shows(
        "it failed",
        lambda v: v.workload("import-catalog")["live"]["reason"] == "BackoffLimitExceeded",
    )
