"""Models: deployments that fail, cool down or have no budget left."""

from collections.abc import Iterator, Sequence
from functools import partial

from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import ModelDeployment

BAD = ("unhealthy", "cooling_down")
UNKNOWN_MODEL = "UnknownModel"
RATE_LIMITED = 429


def down(rule: str, one: ModelDeployment, view: View) -> Iterator[Symptom]:
    """No deployment of the model answers, for the cause that the rule is named after."""
    deployments = view.find("deployments of model", one.model)
    if all(each.status in BAD for each in deployments) and _cause(deployments) == rule:
        yield _trouble(rule, one, deployments)


def hanging(one: ModelDeployment, view: View) -> Iterator[Symptom]:
    """Tasks of several agents hang in calls of the model, and it answers nobody."""
    deployments = view.find("deployments of model", one.model)
    if any(each.rpm is None or each.rpm > 0 or each.status in BAD for each in deployments):
        return
    names = sorted({one.model, *one.aliases})
    waiting = {
        agent.key: agent
        for name in names
        for agent in view.find("agents by stalled wait", ("llm", name))
    }
    if len(waiting) > 1:
        yield Symptom(
            "ModelHanging",
            "litellm",
            one.key,
            f"Tasks of {len(waiting)} agents hang in calls of model {one.model}, which has answered"
            " nothing in the last minute",
            [
                Place("litellm", one.key, "rpm"),
                *(Place("agents", agent.key, "name") for agent in list(waiting.values())[:3]),
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
        )


def _trouble(rule: str, one: ModelDeployment, all: Sequence[ModelDeployment]) -> Symptom:
    names = sorted({one.model, *one.aliases})
    count = "the only deployment" if len(all) == 1 else f"all {len(all)} deployments"
    words = {
        "RateLimited": "answer 429 and cool down",
        "BudgetExhausted": "have no budget left",
        "ModelDown": "fail",
    }[rule]
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
        fields += ["last_error/class", "last_error/status_code"]
    if one.cooldowns.status_code is not None:
        fields += ["cooldowns/status_code"]
    fields += ["failed_rpm"] if one.failed_rpm is not None else []
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
        "No deployment of the model answers.",
        "Read `last_error`: a key that was revoked, a name that the provider does not know, an"
        " outage.",
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
        "Look at the provider and at the timeouts of the proxy.",
        hanging,
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
