"""The published deployments: added, removed, limited, and their cooldowns."""

import pytest

from telemetron.document import Cooldowns, ModelError
from telemetron_collectors.litellm.proxy import ProxyLimits
from tests.collectors.litellm.scripted import at, model


@pytest.mark.parametrize(
    ("state", "status"), [(0, "healthy"), (1, "unhealthy"), (None, "unhealthy")]
)
async def test_the_gauge_shows_whether_a_success_or_a_failure_came_last(
    bench, key_file, state, status
) -> None:
    bench.proxy.models = [model("a", "group", "openai/gpt-4o")]
    await bench.start(key_file=key_file())
    bench.proxy.succeed("a")
    bench.proxy.fail("a")
    gauge = "litellm_deployment_state"
    bench.proxy.count(gauge, 2, model_id="a", litellm_model_name="group")  # sticks
    if state is not None:
        bench.proxy.count(gauge, state, model_id="a", litellm_model_name="gpt-4o")
    await bench.after()
    assert bench.part("a").status == status


async def test_a_cooldown_is_shown_until_it_may_be_over(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.fail("a")
    bench.proxy.cool("a", 429, times=2)
    await bench.after()
    one = bench.part("a")
    assert one.status == "cooling_down"
    assert one.cooldown_until == at(10 + 45)
    assert one.cooldowns == Cooldowns(2, at(10), 429)
    await bench.polls(3)
    bench.clock.advance(4.9)
    assert bench.part("a").status == "cooling_down"
    bench.clock.advance(0.1)  # it began after the poll at 0 s: from 45 s on it may be over
    assert (bench.part("a").status, bench.part("a").cooldown_until) == ("unhealthy", None)
    assert bench.part("a").status_since == at(45)
    assert bench.part("a").cooldowns == Cooldowns(2, at(10), 429)


async def test_a_second_cooldown_extends_the_first(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.cool("a", 429)
    await bench.polls(2)
    bench.proxy.cool("a", "None")
    await bench.polls(3)
    assert bench.part("a").status == "cooling_down"  # 50 s: the first is over
    assert bench.part("a").cooldown_until == at(30 + 45)
    assert bench.part("a").cooldowns == Cooldowns(2, at(30), None)
    assert bench.part("a").last_error == ModelError(None, None, at(30))


async def test_a_cooldown_shorter_than_the_interval_is_only_counted(bench, key_file) -> None:
    bench.proxy.settings["cooldown_time"] = 5
    bench.proxy.models.append(model("c", params={"cooldown_time": 30}))
    await bench.start(key_file=key_file())
    bench.proxy.cool("a", 401)
    bench.proxy.cool("c", 401)
    await bench.after()
    assert (bench.part("a").status, bench.part("a").cooldown_until) == ("unhealthy", None)
    assert bench.part("a").cooldowns == Cooldowns(1, at(10), 401)
    assert bench.part("a").last_error == ModelError(None, 401, at(10))
    assert bench.part("c").cooldown_until == at(40)  # its own cooldown time


async def test_models_are_removed_added_renamed(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.cool("a")
    bench.proxy.succeed("b")
    await bench.after()
    bench.proxy.models = [model("b", "sonnet", "anthropic/claude"), model("c")]
    await bench.polls(6)
    assert {id for _, id in bench.output.parts} == {"b", "c"}
    assert bench.part("b").model == "sonnet"
    assert bench.part("b").status == "healthy"
    bench.proxy.cool("a")  # of one that is not listed
    await bench.after()
    assert {id for _, id in bench.output.parts} == {"b", "c"}


async def test_deployments_beyond_the_limit_are_not_shown(bench, key_file) -> None:
    await bench.start(ProxyLimits(max_deployments=1), key_file=key_file())
    assert bench.state()["models"] == ("LimitReached", "1 of 2 are shown")
    assert [id for _, id in bench.output.parts] == ["a"]
