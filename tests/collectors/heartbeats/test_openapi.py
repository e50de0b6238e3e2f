"""What the OpenAPI document says about heartbeats."""

from typing import Any

import jsonschema_rs

from tests.collectors.heartbeats.test_batch import lines, send
from tests.collectors.heartbeats.test_beat import FULL


async def described(live: Any) -> Any:
    return (await live.client.get("/openapi.json")).json()


async def test_the_operations_are_described(live: Any) -> None:
    paths = (await described(live))["paths"]
    answers = paths["/agents/{name}/heartbeat"]["post"]["responses"]
    assert set(answers) >= {"204", "400", "413", "415", "422", "429"}
    assert set(paths["/agents/heartbeats"]["post"]["responses"]) >= {"200", "400", "413", "415"}
    assert "409" in paths["/agents/{name}/instances/{id}"]["delete"]["responses"]


async def test_a_batch_and_its_results_fit_their_schemas(live: Any) -> None:
    document = await described(live)
    batch = document["paths"]["/agents/heartbeats"]["post"]
    beats = [{"agent": "planner"} | FULL, {"agent": "a", "instance": "i"}, {"agent": "a"}]
    schema = batch["requestBody"]["content"]["application/json"]["schema"]
    fits = jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]})
    assert fits.is_valid(beats[:2])
    assert not fits.is_valid(beats)
    answer = await send(live, lines(beats))
    schema = batch["responses"]["200"]["content"]["application/json"]["schema"]
    fits = jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]})
    fits.validate(answer.json())
    assert [one["status"] for one in answer.json()] == [204, 204, 422]
