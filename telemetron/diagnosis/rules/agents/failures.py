"""Agents whose tasks fail."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.agents.tasks import proxies
from telemetron.diagnosis.view import View
from telemetron.document import Agent

NOT_FOUND = ("NotFound", "BadRequest", "InvalidModel", "ModelNotFound", "UnknownModel")
FAILURES = 3
"""Tasks that must have failed in the window."""
WINDOW_SECONDS = 120.0


def failing(agent: Agent, view: View) -> Iterator[Symptom]:
    """Most tasks that ended of late have failed."""
    completed, failed = _outcomes(agent)
    ring = view.trends.add(("agents", agent.key), view.monotonic, completed, failed)
    recent = [numbers for at, numbers in ring if view.monotonic - at <= WINDOW_SECONDS]
    # Counts fall if an instance leaves or starts again; what ended then is not known.
    steps = [(old, new) for old, new in pairwise(recent) if new[0] >= old[0] and new[1] >= old[1]]
    done = sum(new[0] - old[0] for old, new in steps)
    lost = sum(new[1] - old[1] for old, new in steps)
    last = agent.activity.last_failure
    if lost < FAILURES or lost <= done or last is None:
        return
    models = {*agent.models, *(t.model for t in agent.activity.active_task_ids if t.model)}
    yield Symptom(
        "AgentFailing",
        "agents",
        agent.key,
        f"{lost:.0f} tasks of agent {agent.name} failed in two minutes, {done:.0f} completed"
        f"{f': {last.error}' if last.error else ''}",
        [
            Place("agents", agent.key, f"activity/last_failure/{field}")
            for field in ("error", "task_id", "at")
        ],
        provides=[("failing", agent.key)],
        depends=[
            *(("model", name) for name in sorted(models)),
            *(node for name in sorted(models) for node in proxies(name, view)),
            ("failing", agent.key),
            ("unknown model", agent.key),
        ],
        severity=None if done else "critical",
    )


def unknown_model(agent: Agent, view: View) -> Iterator[Symptom]:
    """Its tasks fail because nobody serves the model that it asks for."""
    last = agent.activity.last_failure
    if last is None or not last.error or not any(word in last.error for word in NOT_FOUND):
        return
    if view.now - (last.at or view.now) > timedelta(minutes=10):
        return
    models = {*agent.models, *(t.model for t in agent.activity.active_task_ids if t.model)}
    for at, name in enumerate(agent.models):
        if name in models and view.serves_models and not view.is_served(name):
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
                since=None,
                provides=[("unknown model", agent.key), ("failing", agent.key), ("model", name)],
            )


# lookups


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
        "`instances[].outcomes` over two minutes, and `last_failure`",
        "Most tasks that ended of late have failed. Critical if none completed.",
        "Read `last_failure.error`; look at the models and tools that its tasks use.",
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
