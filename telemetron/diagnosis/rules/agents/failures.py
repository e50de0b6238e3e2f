"""Agents whose tasks fail."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from operator import attrgetter
from typing import Any

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.agents.tasks import models, proxies
from telemetron.diagnosis.view import View
from telemetron.document import IDENTITIES, Agent, Ended, identify

NOT_FOUND = ("NotFound", "BadRequest", "InvalidModel", "ModelNotFound", "UnknownModel")
FAILURES = 3
"""Tasks that must have failed in the window."""
IN_A_ROW = 5
"""Tasks that must have failed since one completed, for a claim that none completes."""
WINDOW_SECONDS = 120.0


def failing(agent: Agent, view: View) -> Iterator[Symptom]:
    """Most tasks that ended of late have failed: of the agent, or of one of its instances."""
    told = {one.id: one.outcomes for one in agent.instances if one.outcomes}
    streaks = view.streaks.update(
        agent.key, {id: (one.completed, one.failed) for id, one in told.items()}
    )
    whole = list(_failing(agent, view))
    yield from whole
    for id in streaks if not whole and len(told) > 1 else ():
        if streaks[id] >= IN_A_ROW:
            yield _symptom(
                agent,
                view,
                f"The last {streaks[id]} tasks of instance {id} of agent {agent.name} failed, while"
                " other instances complete theirs",
                _outcomes_of(agent, id),
                id,
                path=item("instances", id),
            )


def _failing(agent: Agent, view: View) -> Iterator[Symptom]:
    completed, failed = _outcomes(agent)
    ring = view.trends.add(("agents", agent.key), view.monotonic, completed, failed)
    recent = [numbers for at, numbers in ring if view.monotonic - at <= WINDOW_SECONDS]
    # Counts fall if an instance leaves or starts again; what ended then is not known.
    steps = [(old, new) for old, new in pairwise(recent) if new[0] >= old[0] and new[1] >= old[1]]
    done = sum(new[0] - old[0] for old, new in steps)
    lost = sum(new[1] - old[1] for old, new in steps)
    row = _in_a_row(steps)
    if lost < FAILURES or (lost <= done and row < 2 * IN_A_ROW):
        return
    ended = _failed(agent, view)
    yield _symptom(
        agent,
        view,
        f"{lost:.0f} tasks of agent {agent.name} failed in two minutes, {done:.0f} completed"
        f"{f': {ended[0][1]}' if ended and ended[0][1] else ''}",
        []
        if ended
        else [place for one in agent.instances for place in _outcomes_of(agent, one.id)],
        severity="critical" if not done or row >= IN_A_ROW else None,
    )


def _symptom(
    agent: Agent,
    view: View,
    summary: str,
    evidence: Sequence[Place],
    instance: str | None = None,
    **more: Any,
) -> Symptom:
    used = {*agent.models, *(t.model for t in agent.activity.active_task_ids if t.model)}
    return Symptom(
        "AgentFailing",
        "agents",
        agent.key,
        summary,
        [
            *evidence,
            *(place for places, _ in _failed(agent, view, instance)[:2] for place in places),
        ],
        window_seconds=WINDOW_SECONDS,
        provides=[("failing", agent.key)],
        depends=[
            *(node for name in sorted(used) for node in models(name, view)),
            *(node for name in sorted(used) for node in proxies(name, view)),
            ("failing", agent.key),
            ("unknown model", agent.key),
        ],
        **more,
    )


def _failed(
    agent: Agent, view: View, instance: str | None = None
) -> list[tuple[list[Place], str | None]]:
    """Return the tasks that failed in the window, the newest first: their places and errors."""
    since = view.now - timedelta(seconds=WINDOW_SECONDS)
    found = [
        (_of_ended(agent, one), one.error)
        for one in agent.activity.ended
        if one.status == "failed"
        and (one.ended_at is None or one.ended_at >= since)
        and instance in (None, one.instance)
    ]
    last = agent.activity.last_failure
    if not found and last is not None and last.at is not None and last.at >= since:
        path = "activity/last_failure"
        fields = ("error", "task_id", "at") if last.error else ("task_id", "at")
        found = [([Place("agents", agent.key, f"{path}/{one}") for one in fields], last.error)]
    return found


def _of_ended(agent: Agent, one: Ended) -> list[Place]:
    name = str(identify(IDENTITIES[Ended], attrgetter)(one))
    fields = ("error", "ended_at") if one.error else ("status", "ended_at")
    return [Place("agents", agent.key, item("activity/ended", name, field)) for field in fields]


def _in_a_row(steps: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """How many tasks have failed since one completed."""
    row = 0.0
    for old, new in reversed(steps):
        if new[0] > old[0]:
            break
        row += new[1] - old[1]
    return row


def unknown_model(agent: Agent, view: View) -> Iterator[Symptom]:
    """Its tasks fail because nobody serves the model that it asks for."""
    last = agent.activity.last_failure
    if last is None or not last.error or not any(word in last.error for word in NOT_FOUND):
        return
    if view.now - (last.at or view.now) > timedelta(minutes=10):
        return
    for at, name in enumerate(agent.models):
        if view.serves_models and not view.serving(name):
            yield Symptom(
                "ModelUnknown",
                "agents",
                agent.key,
                f"Agent {agent.name} asks for model {name}, which no deployment serves; its tasks"
                f" fail with {last.error}",
                [
                    Place("agents", agent.key, f"models/{at}"),
                    Place("agents", agent.key, "activity/last_failure/error"),
                    Place("agents", agent.key, "activity/last_failure/at"),
                ],
                kind="model",
                name=name,
                newest=last.at,
                provides=[("unknown model", agent.key), ("failing", agent.key), ("model", name)],
            )


# lookups


def _outcomes_of(agent: Agent, instance: str) -> list[Place]:
    return [
        Place("agents", agent.key, item("instances", instance, f"outcomes/{field}"))
        for field in ("failed", "completed")
    ]


def _outcomes(agent: Agent) -> tuple[int, int]:
    told = [one.outcomes for one in agent.instances if one.outcomes]
    return sum(one.completed for one in told), sum(one.failed for one in told)


RULES = (
    Rule(
        "AgentFailing",
        "agents",
        "warning",
        5,
        30,
        "`instances[].outcomes` over two minutes, `ended` and `last_failure`",
        "Most tasks that ended of late have failed, of the agent or of one of its instances."
        " Critical if none of the agent completes.",
        "Read the errors in `activity.ended`; look at the models and tools that its tasks use.",
        failing,
        asks=("litellm",),
    ),
    Rule(
        "ModelUnknown",
        "agents",
        "critical",
        5,
        30,
        "`models`, `last_failure.error`, and the models that the proxy serves",
        "The agent asks for a model that no deployment serves, and its tasks fail for it.",
        "Correct the model's name in the agent, or add a deployment of it.",
        unknown_model,
        asks=("litellm",),
    ),
)
