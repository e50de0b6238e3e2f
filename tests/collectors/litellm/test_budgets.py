"""Budgets of providers, keys and teams, and the spend of the day."""

import pytest

from telemetron_collectors.litellm.proxy import ProxyLimits
from tests.collectors.litellm.scripted import Reply, model


async def test_a_spent_provider_budget_is_zero_credits(bench, key_file) -> None:
    bench.proxy.settings["provider_budget_config"] = {"openai": {}}
    bench.proxy.budgets = {"openai": {"budget_limit": 1.0, "spend": 1.5}}
    await bench.start(key_file=key_file())
    assert bench.part("a").credits == 0
    bench.proxy.settings["provider_budget_config"] = None
    await bench.polls(33)
    assert bench.part("a").credits is None


async def test_without_metrics_spend_comes_from_the_database(bench, key_file) -> None:
    bench.proxy.replies["/metrics/"] = Reply(404, b"{}")
    bench.proxy.models = [model("a"), model("b", upstream="x/y"), model("c", upstream="x/y")]
    spent = {"gpt-4o": 0.5, "openai/gpt-4o": 0.25, "y": 1.0}
    days = [{"breakdown": {"models": {m: {"metrics": {"spend": s}} for m, s in spent.items()}}}]
    bench.proxy.database = {
        "/user/daily/activity": {"results": days, "metadata": {"total_pages": 1}},
        "/key/list": {"keys": [], "total_pages": 1},
        "/v2/team/list": {"teams": [], "total_pages": 1},
    }
    await bench.start(key_file=key_file())
    assert bench.part("a").spend == 0.75
    assert bench.part("b").spend is None  # c has the same upstream model: whose it was is unknown
    day = dict(zip(bench.proxy.calls, bench.proxy.queries, strict=True))["/user/daily/activity"]
    assert (day["start_date"], day["end_date"]) == (["2030-01-01"], ["2030-01-01"])


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_credits_are_unknown_if_the_key_may_not_read_them(bench, key_file, status) -> None:
    own = {"models": ["gpt-4o"], "max_budget": 2.0, "spend": 0.5, "team_id": None}
    a_teams = {"models": ["claude"], "max_budget": 9.0, "spend": 0.0, "team_id": "t"}
    days = [{"breakdown": {"models": {"gpt-4o": {"metrics": {"spend": 0.25}}}}}]
    bench.proxy.replies["/metrics/"] = Reply(404, b"{}")
    bench.proxy.database = {
        "/user/daily/activity": {"results": days},
        "/key/list": {"keys": [own, a_teams]},
        "/v2/team/list": {"teams": [{**a_teams, "max_budget": 1.0}]},
    }
    refused = Reply(status, b"{}")
    bench.proxy.replies["/v2/team/list"] = refused
    await bench.start(key_file=key_file())
    assert bench.part("a").credits == 1.5
    assert bench.part("b").credits is None  # its team may have less
    assert bench.part("a").spend == 0.25
    said = None if status == 404 else ("Forbidden", "/v2/team/list: the key is not permitted")
    assert bench.state()["database"] == said
    del bench.proxy.replies["/v2/team/list"]
    bench.proxy.replies["/key/list"] = refused
    await bench.polls(6)
    assert bench.part("b").credits is None  # keys of their own may have more
    del bench.proxy.replies["/key/list"]
    await bench.polls(6)
    assert (bench.part("a").credits, bench.part("b").credits) == (1.5, 1.0)


async def test_key_and_team_budgets_are_read_page_by_page(bench, key_file) -> None:
    key = {"models": ["gpt-4o"], "max_budget": 2.0, "spend": 0.5, "team_id": None}
    bench.proxy.database = {
        "/user/daily/activity": {},
        "/key/list": {"keys": [key, {**key, "models": []}], "total_pages": 3},
        "/v2/team/list": {"teams": [], "total_pages": 1},
    }
    await bench.start(ProxyLimits(max_pages=2), key_file=key_file())
    assert bench.part("a").credits == 3.0  # 1.5 on each of the two pages that are read
    assert bench.state()["database"] == ("LimitReached", "/key/list: 2 of 3 pages are read")
    bench.proxy.database["/key/list"]["total_pages"] = 1
    bench.proxy.replies["/v2/team/list"] = Reply(403, b"{}")
    await bench.polls(6)
    assert bench.part("a").credits == 1.5
    message = "/v2/team/list: the key is not permitted"
    assert bench.state()["database"] == ("Forbidden", message)
    bench.proxy.database = None
    await bench.polls(6)
    assert bench.part("a").credits is None
    assert [call for call in bench.output.calls if call[0] == "expect"][-1] == (
        "expect",
        ["", "metrics", "models"],
    )
