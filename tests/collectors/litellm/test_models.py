"""One deployment for each id, under the name that callers use."""

import json
from pathlib import Path

import pytest

from telemetron.document import ModelDeployment
from telemetron_collectors.litellm.models import Names, Values, listed, parse_models
from tests.collectors.litellm.scripted import Bench, Reply, model

DATA = Path(__file__).parents[2] / "data" / "litellm"
PRICED = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "mode": "chat"}


def wildcard(id: str = "w") -> list[object]:
    """What LiteLLM lists of `openai/*`: a row for each model it knows of the provider."""
    rows = [
        model(id, "openai/o1", "openai/o1", max_input_tokens=200_000, **PRICED),
        model(id, "openai/gpt-4", "openai/gpt-4", max_input_tokens=8192, **PRICED),
        model(id, "openai/tts", "openai/tts", mode="audio_speech"),
    ]
    for row in rows:
        row["litellm_params"] |= {"rpm": 7}
    return rows


def configured(id: str, name: str) -> Reply:
    return Reply(body=json.dumps({"data": [model(id, name, name)]}).encode())


def asks_for_one(bench: Bench, id: str, name: str) -> None:
    """The proxy has the deployment as it is configured."""
    bench.proxy.one[id] = configured(id, name)


async def test_rows_of_a_wildcard_are_one_deployment(bench, key_file) -> None:
    bench.proxy.models = [*wildcard(), model("a")]
    asks_for_one(bench, "w", "openai/*")
    await bench.start(key_file=key_file())
    assert {id for _, id in bench.output.parts} == {"w", "a"}
    one = bench.part("w")
    assert (one.model, one.upstream_model, one.provider) == ("openai/*", "*", "openai")
    assert (one.rpm_max, one.aliases) == (7, [])
    assert (one.input_context, one.input_cost_per_token) == (None, None)  # they differ
    assert (one.input_types, one.output_types) == (["text"], [])


async def test_a_wildcard_is_the_same_in_any_order(bench, key_file) -> None:
    bench.proxy.models = wildcard()
    asks_for_one(bench, "w", "openai/*")
    await bench.start(key_file=key_file())
    before = bench.part("w")
    bench.proxy.models = wildcard()[::-1]
    bench.output.calls.clear()
    await bench.polls(6)
    assert bench.part("w").model == before.model
    assert not [call for call in bench.output.calls if call[0] == "put" and call[5] == before]
    asked = [query for query in bench.proxy.queries if "litellm_model_id" in query]
    assert len(asked) == 1


async def test_a_wildcard_that_cannot_be_requested(bench, key_file) -> None:
    bench.proxy.models = [*wildcard(), model("x", "o1", "openai/o1"), model("x", "a/o2", "a/o2")]
    bench.proxy.one |= {"w": Reply(404, b"{}"), "x": Reply(403, b"{}")}
    await bench.start(key_file=key_file())
    assert bench.part("w").model == "openai/*"
    assert bench.part("x").model == "*"
    assert bench.state()["models"] is None


@pytest.mark.parametrize("known", [True, False])
async def test_aliases_are_other_names_of_the_deployment(bench, key_file, known) -> None:
    """LiteLLM lists an alias as a row of its own, unless it is hidden."""
    bench.proxy.models = [model("a"), model("b", "claude", "anthropic/claude"), model("a", "fast")]
    asks_for_one(bench, "a", "gpt-4o")
    aliases = {"fast": "gpt-4o", "secret": {"model": "claude", "hidden": True}, "odd": None}
    if known:
        bench.proxy.settings["model_group_alias"] = aliases
    await bench.start(key_file=key_file())
    assert (bench.part("a").model, bench.part("a").aliases) == ("gpt-4o", ["fast"])
    assert bench.part("b").aliases == (["secret"] if known else [])


async def test_a_teams_name_for_a_model_is_another_name(bench, key_file) -> None:
    bench.proxy.models = [model("a", "model_name_team_1", team_public_model_name="gpt-team")]
    await bench.start(key_file=key_file())
    assert bench.part("a").aliases == ["gpt-team"]


def test_recorded_rows_of_wildcards_and_aliases() -> None:
    """As a proxy with `openai/*`, a model and two aliases of it listed them."""
    rows = parse_models((DATA / "names" / "model_info.json").read_bytes()).by_id
    whole = parse_models((DATA / "names" / "model_info_wildcard.json").read_bytes()).by_id
    aliases = Values(model_group_alias={"alias1": "good"}).aliases
    parts = {id: listed(own, aliases, None).part for id, own in rows.items()}
    assert {id: part.model for id, part in parts.items()} == {
        "good-1": "good",
        "wild-1": "openai/*",
    }
    assert parts["good-1"].aliases == ["alias1"]
    assert parts["good-1"].rpm_max == 100
    named = listed(rows["wild-1"], aliases, whole["wild-1"][0]).part
    assert (named.model, named.upstream_model) == ("openai/*", "*")
    assert (named.input_context, named.input_cost_per_token) == (None, None)


def test_names_as_the_router_finds_them() -> None:
    deployments = [
        ModelDeployment(id="1", model="gpt-4o", aliases=["fast"]),
        ModelDeployment(id="2", model="openai/*"),
        ModelDeployment(id="3", model="openai/gpt-5*"),
        ModelDeployment(id="4", model="a.c"),
    ]
    names = Names(deployments, {"hidden": "gpt-4o", "five": "openai/gpt-5.1"})
    asked = {
        "gpt-4o": "gpt-4o",
        "fast": "gpt-4o",
        "hidden": "gpt-4o",
        "five": "openai/gpt-5*",
        "1": "gpt-4o",
        "openai/*": "openai/*",
        "openai/o1": "openai/*",
        "openai/gpt-5.1": "openai/gpt-5*",
        "abc": None,
        "nobody": None,
    }
    assert {name: names.group(name) for name in asked} == asked


async def test_a_malformed_row_hides_no_other_row(bench, key_file) -> None:
    odd = [{"model_name": "x", "model_info": {}}, {"model_name": None, "model_info": {"id": "y"}}]
    bench.proxy.models = [*odd, model("a")]
    await bench.start(key_file=key_file())
    assert bench.part("a").model == "gpt-4o"
    message = "/model/info: 2 rows are malformed"
    assert bench.state()["models"] == ("BadAnswer", message)
    bench.proxy.models = odd
    await bench.polls(6)
    assert bench.part("a").model == "gpt-4o"  # nothing can be understood: the last known stays
    assert bench.state()["models"] == ("BadAnswer", "/model/info: the answer is malformed")
