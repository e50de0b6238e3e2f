"""Models: deployments that fail, cool down or have no budget left."""

from collections.abc import Iterator, Sequence
from functools import partial

from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.queues.readers import queues_named
from telemetron.diagnosis.view import View
from telemetron.document import ModelDeployment

BAD = ("unhealthy", "cooling_down")
UNKNOWN_MODEL = "UnknownModel"
RATE_LIMITED = 429
SLOW_SECONDS, SLOWER = 10.0, 3.0
"""The mean latency of a slow model, and how many times its usual latency it is."""
VERY_SLOW_SECONDS = 60.0
"""The mean latency of a slow model if its usual latency is not known."""


def down(rule: str, one: ModelDeployment, view: View) -> Iterator[Symptom]:
    """No deployment of the model answers, for the cause that the rule is named after."""
    deployments = view.find("deployments of model", one.model)
    if all(each.status in BAD for each in deployments) and _cause(deployments) == rule:
        yield _trouble(rule, one, deployments)
        if models := _down_with(rule, one, view):
            yield _of_provider(rule, one, models)


def hanging(one: ModelDeployment, view: View) -> Iterator[Symptom]:
    """Tasks of several agents hang in calls of the model, and it answers nobody."""
    deployments = view.find("deployments of model", one.model)
    if any(each.rpm is None or each.rpm > 0 or each.status in BAD for each in deployments):
        return
    names = sorted({one.model, *one.aliases})
    waiting = view.waiting_for(names)
    if len(waiting) > 1:
        yield Symptom(
            "ModelHanging",
            "litellm",
            one.key,
            f"Tasks of {len(waiting)} agents hang in calls of model {one.model}, which has answered"
            " nothing in the last minute",
            [
                Place("litellm", one.key, "rpm"),
                *(Place("agents", agent.key, "name") for agent in waiting[:3]),
            ],
            kind="model",
            name=one.model,
            provides=[("model", name) for name in names],
            depends=[("source", one.source)],
        )


def slow(one: ModelDeployment, view: View) -> Iterator[Symptom]:
    """A model answers, but slowly, and tasks make no progress meanwhile."""
    now, usual = one.latency_seconds, view.usual_latency.get(one.key)
    if now is None:
        return
    names = sorted({one.model, *one.aliases})
    waiting = view.waiting_for(names)
    if not waiting or not is_slow(one, view):
        if usual or not waiting:  # else it may be slow by now
            view.usual_latency[one.key] = min(now, usual or now)
        return
    yield Symptom(
        "ModelSlow",
        "litellm",
        one.key,
        f"Model {one.model} takes {now:.0f} s a call"
        + (f", {now / usual:.0f} times as long as it did" if usual else "")
        + f"; tasks of {', '.join(agent.name for agent in waiting[:4])} wait for it",
        [
            Place("litellm", one.key, "latency_seconds"),
            *(Place("agents", agent.key, "activity/least_progressed_at") for agent in waiting[:3]),
        ],
        kind="model",
        name=one.model,
        provides=[("model", name) for name in names],
        depends=[("source", one.source)],
    )


def degraded(one: ModelDeployment, view: View) -> Iterator[Symptom]:
    """Some deployments do not answer; others of the model take the calls."""
    deployments = view.find("deployments of model", one.model)
    if one.status in BAD and not all(each.status in BAD for each in deployments):
        yield Symptom(
            "ModelDegraded",
            "litellm",
            one.key,
            f"Deployment {one.id} of model {one.model} is {one.status}{_error(one)}; others answer",
            _evidence(one),
            since=one.status_since,
            provides=[("degraded", one.model)],
            depends=[("provider", one.source, one.provider or "")],
        )


def is_slow(one: ModelDeployment, view: View) -> bool:
    """Return whether its calls take far longer than usual.

    If that is not known: a minute, or so long that the queues of agents that wait for it grow.
    """
    now, usual = one.latency_seconds, view.usual_latency.get(one.key)
    if now is None or now < SLOW_SECONDS:
        return False
    if usual:
        return now >= SLOWER * usual
    return now >= VERY_SLOW_SECONDS or _is_missed(one, view)


def _is_missed(one: ModelDeployment, view: View) -> bool:
    """Whether the queue of an agent grows whose tasks wait for the model."""
    return any(
        view.trends.rises(("queues", queue.key), view.monotonic)
        for agent in view.waiting_for([one.model, *one.aliases])
        for name in agent.queues
        for queue in queues_named(name, agent, view)
    )


def _trouble(rule: str, one: ModelDeployment, all: Sequence[ModelDeployment]) -> Symptom:
    names = sorted({one.model, *one.aliases})
    count = "the only deployment" if len(all) == 1 else f"all {len(all)} deployments"
    one_or_all = {
        "RateLimited": ("answers 429 and cools down", "answer 429 and cool down"),
        "BudgetExhausted": ("has no budget left", "have no budget left"),
        "ModelDown": ("fails", "fail"),
    }[rule]
    words = one_or_all[len(all) > 1]
    return Symptom(
        rule,
        "litellm",
        one.key,
        f"Model {one.model}: {count} {words}{_error(one)}",
        _evidence(one),
        kind="model",
        name=one.model,
        since=one.status_since,
        provides=[("model", name) for name in names],
        depends=[
            ("source", one.source),
            *(("provider", each.source, each.provider or "") for each in all),
        ],
    )


def _down_with(rule: str, one: ModelDeployment, view: View) -> list[str]:
    """The models of its provider, if all that were called have the same trouble: two or more."""
    found = view.find("deployments of provider", (one.source, one.provider))
    called = [each for each in found if each.status != "unknown"]
    models = sorted({each.model for each in called})
    is_common = all(each.status in BAD and _cause([each]) == rule for each in called)
    return models if is_common and len(models) > 1 else []


def _of_provider(rule: str, one: ModelDeployment, models: Sequence[str]) -> Symptom:
    return Symptom(
        rule,
        "litellm",
        one.key,
        f"Provider {one.provider}: all deployments of {len(models)} models have the same trouble"
        f"{_error(one)}: {', '.join(models[:4])}",
        _evidence(one),
        kind="provider",
        name=one.provider,
        since=one.status_since,
        provides=[("provider", one.source, one.provider or "")],
        depends=[("source", one.source)],
    )


def _cause(all: Sequence[ModelDeployment]) -> str:
    if any(problem.reason == "BudgetSpent" for one in all for problem in one.problems):
        return "BudgetExhausted"
    if any(one.credits is not None and one.credits <= 0 for one in all):
        return "BudgetExhausted"
    codes = {one.cooldowns.status_code for one in all if one.status == "cooling_down"}
    return "RateLimited" if codes == {RATE_LIMITED} else "ModelDown"


def _evidence(one: ModelDeployment) -> list[Place]:
    fields = ["status"]
    if one.last_error is not None:
        fields += ["last_error/class" if one.last_error.error_class else "last_error/status_code"]
    if one.cooldowns.status_code is not None:
        fields += ["cooldowns/status_code"]
    return [Place("litellm", one.key, field) for field in fields]


def _error(one: ModelDeployment) -> str:
    if one.last_error is None or one.last_error.error_class is None:
        return ""
    return f" ({one.last_error.error_class})"


RULES = (
    Rule(
        "ModelDown",
        "litellm",
        "critical",
        10,
        10,
        "`status` of all deployments of a model",
        "No deployment of the model answers. If all models of a provider that were called have the"
        " same trouble, the provider is the root.",
        "Read `last_error` of the deployments: renew a revoked key, correct the upstream model's "
        "name, or route the calls to another model during an outage.",
        partial(down, "ModelDown"),
    ),
    Rule(
        "ModelHanging",
        "litellm",
        "critical",
        15,
        10,
        "`rpm` of all deployments of a model, and stalled tasks that wait for it",
        "Tasks of several agents hang in calls of a model that answers nobody, and no call fails.",
        "Call the model once through the proxy; set a timeout in the proxy, and route the calls "
        "to another deployment if the provider hangs.",
        hanging,
        asks=("agents",),
    ),
    Rule(
        "ModelSlow",
        "litellm",
        "warning",
        10,
        15,
        "`latency_seconds`, and stalled tasks that wait for the model",
        "A model takes 10 s a call or more, three times as long as it did, and tasks that wait for"
        " it make no progress. If it is not known how long it took, it must take 60 s, or the"
        " queues of the waiting agents must grow.",
        "Look at the provider's status and at the size of the calls.",
        slow,
        asks=("agents",),
    ),
    Rule(
        "RateLimited",
        "litellm",
        "critical",
        10,
        15,
        "`status` is `cooling_down` and `cooldowns.status_code` is 429, for all deployments",
        "The provider refuses the calls of a model for their number.",
        "Slow the callers, raise the limit, or add a deployment.",
        partial(down, "RateLimited"),
    ),
    Rule(
        "BudgetExhausted",
        "litellm",
        "critical",
        5,
        10,
        "`credits` is 0 or below, or a problem `BudgetSpent`, of all deployments",
        "The budget of a provider, a key or a deployment is spent.",
        "Raise the budget, or wait for its reset.",
        partial(down, "BudgetExhausted"),
    ),
    Rule(
        "ModelDegraded",
        "litellm",
        "info",
        10,
        15,
        "`status` of some deployments of a model",
        "Some deployments of a model do not answer; others take their calls.",
        "Read `last_error` of the deployment.",
        degraded,
    ),
)
