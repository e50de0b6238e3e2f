"""Scaling: no pod is wanted although work waits, or no more pods are allowed."""

from collections.abc import Iterator

from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.queues.readers import capacity, queues_named
from telemetron.diagnosis.rules.workload.symptoms import is_job
from telemetron.diagnosis.trend import WINDOW_SECONDS
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import wait
from telemetron.document import Queue, Workload


def scaled_to_zero(one: Workload, view: View) -> Iterator[Symptom]:
    """No pod is wanted, while work waits for its agents."""
    if one.live is None or one.live.desired != 0 or is_job(one):
        return
    for queue in _queues(one, view):
        if queue.depth and queue.consumers == 0:
            yield Symptom(
                "ScaledToZero",
                "workload",
                one.key,
                f"{one.kind} {one.deployment_name} is scaled to zero, and"
                f" {wait(queue.depth)} in queue {queue.name}",
                [
                    Place("workload", one.key, "live/desired"),
                    Place("queues", queue.key, "depth"),
                    Place("queues", queue.key, "consumers"),
                ],
                since=queue.oldest_submitted_at,
                provides=[("workload", one.key), ("queue", queue.key)],
                token=queue.consumed_at,  # something else may read it
            )
            return


def at_maximum(one: Workload, view: View) -> Iterator[Symptom]:
    """An autoscaler may add no more pods, while the backlog of its agents grows."""
    live = one.live
    if live is None or live.desired is None or one.max_pods is None:
        return
    if live.desired < one.max_pods:
        view.autoscaled.add(one.key)  # without an autoscaler the two are equal
    if live.desired < one.max_pods or one.key not in view.autoscaled:
        return
    for queue in _queues(one, view):
        if view.trends.rises(("queues", queue.key), view.monotonic):
            yield Symptom(
                "AtMaximum",
                "workload",
                one.key,
                f"{one.kind} {one.deployment_name} has {_all(one.max_pods)} that its autoscaler"
                f" allows, and queue {queue.name} grows: {wait(queue.depth or 0)}",
                [
                    Place("workload", one.key, "live/desired"),
                    Place("workload", one.key, "max_pods"),
                    Place("queues", queue.key, "depth"),
                ],
                window_seconds=WINDOW_SECONDS,
                provides=[("maximum", one.key)],
                depends=[
                    ("workload", one.key),
                    *capacity(view.find("agents of workload", one.key), view),
                ],
            )
            return


# lookups


def _all(pods: int) -> str:
    return "the only pod" if pods == 1 else f"all {pods} pods"


def _queues(one: Workload, view: View) -> Iterator[Queue]:
    """Yield the queues that the workload's agents read, or whose members its pods were last."""
    for agent in view.find("agents of workload", one.key):
        for name in agent.queues:
            yield from queues_named(name, agent, view)
    for key, homes in sorted(view.homes.items()):
        if one.key in homes and (queue := view.get("queues", key)):
            yield queue


RULES = (
    Rule(
        "ScaledToZero",
        "workload",
        "critical",
        45,
        5,
        "`live.desired` is 0, and `depth` of a queue that its agents read is above 0",
        "No pod is wanted, but work waits for it.",
        "Run `kubectl scale --replicas=1`; then find out why the autoscaler does not see the "
        "queue.",
        scaled_to_zero,
        asks=("queues", "agents"),
    ),
    Rule(
        "AtMaximum",
        "workload",
        "warning",
        20,
        30,
        "`live.desired` equals `max_pods`, and `depth` of a queue that its agents read grows",
        "The autoscaler cannot add pods, and the backlog grows. An autoscaler at its maximum is no"
        " finding if the backlog does not grow.",
        "Raise the autoscaler's maximum (`kubectl edit hpa`), or let each pod run more tasks at "
        "once.",
        at_maximum,
        asks=("queues", "agents"),
    ),
)
