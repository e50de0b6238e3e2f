"""Rules of models: each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import Cooldowns, ModelError, Problem, Wait
from tests.telemetron.diagnosis.system import System, alarms, rules


async def test_a_model_none_of_whose_deployments_answers() -> None:
    async with System() as system:
        error = ModelError(error_class="AuthenticationError", status_code=401)
        for id in ("a", "b"):
            system.model(id, "gpt", status="unhealthy", last_error=error)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.key) == ("ModelDown", "litellm/a")
        assert (finding.root.kind, finding.root.name) == ("model", "gpt")
        assert "all 2 deployments fail (AuthenticationError)" in finding.summary


@pytest.mark.parametrize("other", ["healthy", "unknown"])
async def test_another_deployment_takes_its_calls(other: str) -> None:
    async with System() as system:
        system.model("a", "gpt", status="unhealthy")
        system.model("b", "gpt", status=other)
        found = await system.after(60)
        assert [(one.rule, one.severity) for one in found] == [("ModelDegraded", "info")]


async def test_models_of_which_nothing_is_known_are_no_finding() -> None:
    async with System() as system:
        system.model("a", "gpt", status="unknown")
        assert await system.after(60) == []


async def test_a_provider_that_refuses_for_the_rate() -> None:
    async with System() as system:
        system.model("a", "gpt", status="cooling_down", cooldowns=Cooldowns(3, status_code=429))
        assert [one.rule for one in await system.after(60)] == ["RateLimited"]


async def test_one_cooldown_that_is_soon_over_is_no_finding() -> None:
    async with System() as system:
        system.model("a", "gpt", status="cooling_down", cooldowns=Cooldowns(1, status_code=429))
        await system.after(5)
        system.model("a", "gpt")
        assert await system.after(60) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"credits": 0.0},
        {"problems": [Problem("BudgetSpent", "spent", since="2030-01-01T00:00:00Z")]},
    ],
)
async def test_a_budget_that_is_spent(fields: dict[str, object]) -> None:
    async with System() as system:
        if "problems" in fields:
            fields = {"problems": [Problem("BudgetSpent", "spent", since=system.ago(5))]}
        system.model("a", "gpt", status="unhealthy", **fields)
        assert [one.rule for one in await system.after(60)] == ["BudgetExhausted"]


async def test_tasks_that_wait_for_the_model_are_effects() -> None:
    async with System() as system:
        system.model("a", "gpt", status="unhealthy", aliases=["fast"])
        for name, model in (("one", "gpt"), ("two", "fast")):
            wait = Wait(kind="llm", name=model)
            system.agent(name, system.task(f"t-{name}", wait, stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("ModelDown", 2)


async def test_a_task_that_hung_long_before_is_no_effect() -> None:
    """Coincidence in time alone is no cause, and neither is what came later."""
    async with System() as system:
        wait = Wait(kind="llm", name="gpt")
        task = system.task("t", wait, stalled=True, progressed_at=system.ago(7200))
        system.agent("a", task)
        system.model("a", "gpt", status="unhealthy", status_since=system.ago(10))
        assert {rule for rule, _ in alarms(await system.after(60))} == {"ModelDown", "TaskStalled"}


def waiting(system: System, *names: str) -> None:
    """Agents with a task that has hung in a call of the model for long."""
    for name in names:
        wait = Wait(kind="llm", name="gpt")
        system.agent(name, system.task(f"t-{name}", wait, stalled=True))


async def test_a_model_in_whose_calls_several_agents_hang() -> None:
    async with System() as system:
        system.model("a", "gpt", status="unknown", rpm=0.0)
        waiting(system, "one", "two")
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.key) == ("ModelHanging", "litellm/a")
        assert {one.rule for one in finding.effects} == {"TaskStalled"}


async def test_a_model_that_answers_others_does_not_hang() -> None:
    async with System() as system:
        system.model("a", "gpt", rpm=30.0)
        waiting(system, "one", "two")
        assert {rule for rule, _ in alarms(await system.after(60))} == {"CommonWait"}


@pytest.mark.parametrize(("off", "expected"), [("ModelDown", ["RateLimited"]), ("RateLimited", [])])
async def test_one_cause_is_switched_off_without_the_others(off: str, expected: list[str]) -> None:
    async with System(rules={off: "off"}) as system:
        system.model("a", "gpt", status="cooling_down", cooldowns=Cooldowns(3, status_code=429))
        assert [one.rule for one in await system.after(60)] == expected


async def test_a_provider_all_of_whose_models_fail_is_the_root() -> None:
    async with System() as system:
        for name in ("small", "embed"):
            system.model(f"o-{name}", name, provider="openai", status="unhealthy")
        system.model("other", "large", provider="anthropic")
        (finding,) = await system.after(60)
        assert (finding.root.kind, finding.root.name) == ("provider", "openai")
        assert (finding.severity, finding.effect_count) == ("critical", 2)


async def test_one_failing_model_of_a_provider_is_not_the_provider() -> None:
    async with System() as system:
        system.model("o-small", "small", provider="openai", status="unhealthy")
        system.model("o-embed", "embed", provider="openai")
        (finding,) = await system.after(60)
        assert (finding.root.kind, finding.root.name) == ("model", "small")


async def test_a_model_that_becomes_slow_while_tasks_wait() -> None:
    async with System() as system:
        system.model("m-1", latency_seconds=1.5)
        await system.after(5)
        system.model("m-1", latency_seconds=40.0)
        wait = Wait(kind="llm", name="m", since=system.ago(1))
        system.agent("a", system.task("t", wait, stalled=True))
        assert await rules(system) == [("ModelSlow", "warning")]


async def test_a_model_that_is_always_slow_is_no_finding() -> None:
    async with System() as system:
        system.model("m-1", latency_seconds=38.0)
        await system.after(5)
        system.model("m-1", latency_seconds=40.0)
        wait = Wait(kind="llm", name="m", since=system.ago(1))
        system.agent("a", system.task("t", wait, stalled=True))
        assert await rules(system) == []


@pytest.mark.parametrize(("seconds", "roots"), [(70.0, {"ModelSlow"}), (25.0, set())])
async def test_a_model_that_was_slow_before_telemetron_is_one_that_takes_a_minute(
    seconds: float, roots: set[str]
) -> None:
    async with System() as system:
        wait = Wait(kind="llm", name="m", since=system.ago(1))
        system.agent("a", system.task("t", wait, stalled=True))
        system.model("m-1", latency_seconds=seconds)
        assert {rule for rule, _ in await rules(system, 30)} == roots


async def test_a_wildcard_deployment_explains_the_waits_for_its_models() -> None:
    async with System() as system:
        system.model("wild", "openrouter/*", status="unhealthy", status_since=system.ago(5))
        wait = Wait(kind="llm", name="openrouter/qwen-3")
        for name in ("a", "b"):
            system.agent(name, system.task(f"t-{name}", wait, stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("ModelDown", 2)


async def test_a_model_that_is_slow_from_the_first_look_is_one_if_backlogs_grow() -> None:
    async with System() as system:
        system.model("a", latency_seconds=30.0)
        for second in range(90):
            wait = Wait(kind="llm", name="m", since=system.ago(40))
            system.agent("x", system.task("t", wait, stalled=True), queues=["q"])
            system.queue("q", depth=second * 3)
            await system.after(1)
            if second == 20:
                assert system.findings == []
        (finding,) = system.findings
        assert finding.rule == "ModelSlow"
        assert {one.rule for one in finding.effects} == {"QueueGrowing", "TaskStalled"}
