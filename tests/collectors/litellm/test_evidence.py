"""When a deployment is healthy, and what ends that."""

import pytest

from telemetron.document import ModelDeployment, ModelError
from telemetron.store.measure import same_state
from tests.collectors.litellm.scripted import FAMILIES, Bench, Reply, at


def status(bench: Bench, id: str = "a") -> str:
    return bench.part(id).status


def reasons(bench: Bench, id: str = "a") -> list[str]:
    return [problem.reason for problem in bench.part(id).problems]


def refuse(bench: Bench, cls: str, code: object = "None", group: str = "gpt-4o") -> None:
    error = {"exception_class": cls, "exception_status": code, "requested_model": group}
    name = "litellm_deployment_failure_responses_total"
    bench.proxy.count(name, 1, model_id="", model_group=group, **error)


async def healthy(bench: Bench, file: str) -> None:
    """`a` has just succeeded, at 10 s."""
    await bench.start(key_file=file)
    bench.proxy.succeed("a")
    await bench.after()
    assert status(bench) == "healthy"


async def test_healthy_ends_by_a_timer(bench, key_file) -> None:
    await healthy(bench, key_file())
    await bench.polls(29)
    bench.clock.advance(9.9)
    assert status(bench) == "healthy"
    bench.clock.advance(0.1)  # the poll at 310 s is not over
    assert (status(bench), bench.part("a").status_since) == ("unknown", at(310))


async def test_a_proxy_that_never_answers_leaves_nothing_healthy(bench, key_file) -> None:
    """Nothing is note_answer after the poll at 10 s; the source is stale 90 s later."""
    await healthy(bench, key_file())
    bench.proxy.everything = Reply(frozen=True)
    bench.clock.advance(89)
    assert status(bench) == "healthy"
    bench.clock.advance(1)
    assert (status(bench), bench.part("a").status_since) == ("unknown", at(100))


@pytest.mark.parametrize("failing", [True, False])
async def test_without_metrics_the_status_becomes_unknown(bench, key_file, failing) -> None:
    """The proxy is there, and says nothing of its calls."""
    await healthy(bench, key_file())
    if failing:
        bench.proxy.fail("a")
        await bench.after()
    bench.proxy.replies["/metrics/"] = Reply(500, b"{}")
    await bench.after()
    assert status(bench) == ("unhealthy" if failing else "healthy")
    for _ in range(30):
        await bench.second(10)
    assert status(bench) == "unknown"
    del bench.proxy.replies["/metrics/"]
    for _ in range(4):
        await bench.second(10)
    assert status(bench) == ("unhealthy" if failing else "unknown")


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        ("Openai.ContextWindowExceededError", 400),
        ("Openai.ContentPolicyViolationError", 400),
        ("Openai.BadRequestError", 422),
        ("Openai.APIError", 403),
        ("Openai.APIError", 413),
        ("Anthropic.BadRequestError", "None"),
    ],
)
async def test_a_callers_fault_does_not_change_the_status(bench, key_file, cls, code) -> None:
    await healthy(bench, key_file())
    bench.proxy.fail("a", cls=cls, status=code)
    bench.proxy.fail("b", cls=cls, status=code)
    await bench.polls(6)
    assert (status(bench), status(bench, "b")) == ("healthy", "unknown")
    assert bench.part("a").last_error is None
    assert bench.part("a").failed_rpm == 1


@pytest.mark.parametrize("code", [401, 402, 404, 408, 429, 500, 502, 503])
async def test_a_providers_failure_makes_it_unhealthy(bench, key_file, code) -> None:
    await healthy(bench, key_file())
    bench.proxy.fail("a", cls="Openai.Error", status=code)
    await bench.after()
    assert status(bench) == "unhealthy"
    assert bench.part("a").last_error == ModelError("Openai.Error", code, at(20))


async def test_failures_of_both_kinds_between_two_polls(bench, key_file) -> None:
    await healthy(bench, key_file())
    bench.proxy.fail("a", 9, cls="Openai.BadRequestError", status=400)
    bench.proxy.fail("a", 1, cls="Openai.InternalServerError", status=500)
    await bench.after()
    assert status(bench) == "unhealthy"
    assert bench.part("a").last_error.status_code == 500


async def test_a_failure_without_class_and_status_ends_healthy(bench, key_file) -> None:
    """The labels that say whose fault it was are left out."""
    await healthy(bench, key_file())
    name = "litellm_deployment_failure_responses_total"
    bench.proxy.count(name, 1, model_id="a", model_group="gpt-4o")
    await bench.after()
    assert (status(bench), bench.part("a").last_error) == ("unknown", None)


async def test_a_failure_ends_by_time_if_successes_are_not_counted(bench, key_file) -> None:
    only = ("litellm_deployment_failure_responses", "litellm_deployment_cooled_down")
    bench.proxy.families = {family: FAMILIES[family] for family in only}
    await bench.start(key_file=key_file())
    bench.proxy.fail("a", status=500)
    await bench.after()
    assert status(bench) == "unhealthy"
    await bench.polls(30)
    assert status(bench) == "unknown"


@pytest.mark.parametrize(
    ("cls", "code"),
    [("RouterRateLimitError", "None"), ("ValueError", "None"), ("X", 429), ("X", 503)],
)
async def test_refusals_without_a_success_since_end_healthy(bench, key_file, cls, code) -> None:
    await healthy(bench, key_file())
    refuse(bench, cls, code)
    await bench.after()
    assert (status(bench), reasons(bench)) == ("unhealthy", ["CallsRefused"])
    assert (status(bench, "b"), reasons(bench, "b")) == ("unknown", [])
    bench.proxy.succeed("a")
    await bench.after()
    assert (status(bench), reasons(bench)) == ("healthy", [])


async def test_the_status_is_unknown_after_refusals_end(bench, key_file) -> None:
    await healthy(bench, key_file())
    refuse(bench, "RouterRateLimitError")
    await bench.after()
    since = bench.part("a").problems[0].since
    await bench.polls(28)
    assert bench.part("a").problems[0].since == since
    await bench.polls(2)
    assert (status(bench), reasons(bench)) == ("unknown", [])


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        ("BudgetExceededError", 429),
        ("BudgetExceededError", "None"),
        ("HTTPException", 429),
        ("ModelAccessDeniedProxyException", 403),
        ("AuthenticationError", 401),
        ("BadRequestError", 400),
        ("NotFoundError", 404),
    ],
)
async def test_a_refused_caller_does_not_end_healthy(bench, key_file, cls, code) -> None:
    await healthy(bench, key_file())
    refuse(bench, cls, code)
    await bench.polls(6)
    assert (status(bench), bench.part("a").refused_rpm) == ("healthy", 1)


async def test_credits_that_are_spent_end_healthy(bench, key_file) -> None:
    bench.proxy.settings["provider_budget_config"] = {"openai": {}}
    bench.proxy.budgets = {"openai": {"budget_limit": 1.0, "spend": 0.5}}
    await healthy(bench, key_file())
    bench.proxy.budgets["openai"]["spend"] = 1.0
    bench.proxy.succeed("a")  # the call that spent it
    await bench.polls(3)
    assert bench.part("a").credits == 0
    assert (status(bench), reasons(bench)) == ("unhealthy", ["BudgetSpent"])
    bench.proxy.budgets["openai"]["spend"] = 0.0
    await bench.polls(3)
    assert (status(bench), reasons(bench)) == ("healthy", [])


async def test_callers_without_a_budget_still_succeed(bench, key_file) -> None:
    """What is left to the keys that name the model says nothing of those that name none."""
    key = {"models": ["gpt-4o"], "max_budget": 1.0, "spend": 1.0}
    bench.proxy.database = {
        "/user/daily/activity": {},
        "/key/list": {"keys": [key]},
        "/v2/team/list": {},
    }
    await bench.start(key_file=key_file())
    assert (bench.part("a").credits, reasons(bench)) == (0, ["BudgetSpent"])
    bench.proxy.succeed("a")
    await bench.after()
    assert (status(bench), reasons(bench)) == ("healthy", [])


@pytest.mark.parametrize("cooldown", [5, 15, 25, 45])
async def test_repeated_failures_change_the_state_once(bench, key_file, cooldown) -> None:
    """The times of its errors and cooldowns, and how many there were, are measures."""
    bench.proxy.settings["cooldown_time"] = cooldown
    await bench.start(key_file=key_file())
    bench.proxy.fail("a")
    bench.proxy.cool("a")
    await bench.after()
    first, same = bench.part("a"), same_state(ModelDeployment)
    for poll in range(6):
        bench.proxy.fail("a")
        bench.proxy.cool("a")
        await bench.after()
        part = bench.part("a")
        assert part.last_error.at == part.cooldowns.last_at == at(20 + 10 * poll)
        assert part.cooldowns.count == 2 + poll
        assert same(first, part)
