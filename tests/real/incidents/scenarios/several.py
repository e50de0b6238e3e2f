"""Two things at once: incidents that have nothing to do with each other, or with a change."""

from tests.real.incidents.scenario import agent, queue, scenario, source, workload
from tests.real.incidents.scenarios.decoys import Rollout
from tests.real.incidents.scenarios.workloads import lack_a_secret, oom
from tests.real.incidents.world import World


@scenario(
    "warning",
    roots=[source("kafka"), workload("writer")],
    effects=[*map(agent, ("writer", "planner", "orchestrator"))],
)
async def blind_and_crash(w: World) -> None:
    """Kafka is out of sight, and writer crashes meanwhile; planner waits for writer's queue."""
    w.broker.cut()
    await w.run(3)
    for instance in w.instances("writer"):
        instance.kill()
    oom(w, "writer", 6)
    w.blocked.add(("queue", "sections"))
    w.shows("the source says so", lambda v: v.is_out_of_sight("kafka"))
    w.shows("writer is silent", lambda v: v.agent("writer")["status"] == "silent")
    w.shows("planner's tasks stall", lambda v: v.stalled("planner"))


@scenario("critical", roots=[workload("coder")], effects=[queue("code", "coder"), agent("coder")])
async def crash_beside_update(w: World) -> None:
    """Coder's new version cannot start, while writer is updated pod by pod."""
    w.each_tick.append(Rollout(w, w.workload("writer")).tick)
    await lack_a_secret(w)
    w.shows("no coder is ready", lambda v: v.workload("coder")["live"]["ready"] == 0)
    w.shows("work waits", lambda v: v.queue("code")["depth"] >= 2)
    w.shows("writer is updated", lambda v: v.workload("writer")["live"]["rollout"] == "progressing")
