import asyncio
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import jsonschema_rs
import msgspec
import pytest
from msgspec import Struct, UnsetType

from telemetron.document import State
from telemetron.web.pages.schema import schema

SECTIONS = {"findings", "agents", "litellm", "queues", "workload"}

LEVELS = {
    "SourceRow.entities",
    *("Finding.rank", "Finding.summary"),
    *("Instance.outcomes", "Activity.ended_count"),
    "ModelDeployment.tpm",
    "ModelDeployment.rpm",
    "ModelDeployment.failed_rpm",
    "ModelDeployment.refused_rpm",
    "ModelDeployment.refusals",
    "ModelDeployment.callers",
    "Cooldowns.count",
    "Queue.depth",
    "Queue.open_transaction_offsets",
    "Queue.depth_exact",
    "Queue.lag",
    "Queue.unacknowledged",
    "Queue.lagging",
}
SAMPLES = {
    *("Evidence.at", "Evidence.value", "Finding.observed_at"),
    "Activity.least_progressed_at",
    "Task.progressed_at",
    "ModelDeployment.latency_seconds",
    "ModelDeployment.credits",
    "ModelDeployment.spend",
    "ModelDeployment.measured_at",
    "ModelDeployment.cooldown_until",
    *("Cooldowns.last_at", "ModelError.at"),
    "Queue.oldest_submitted_at",
    "Queue.produced_at",
    "Queue.consumed_at",
    "Queue.open_transaction_since",
    "Queue.tasks",
    "Queue.measured_at",
    "Pod.cpu",
    "Pod.memory",
    "Pod.network_in",
    "Pod.network_out",
    "Pod.measured_at",
}
REFS = {
    "Agent.deployment_name": "workload[].deployment_name",
    "Agent.models": "litellm[].model",
    "Agent.queues": "queues[].name",
    "Agent.sources": "sources[].key",
    "Ended.queue": "queues[].name",
    "Finding.unchecked": "sources[].key",
    "Instance.pod_id": "workload[].pods[].pod_id",
    "Instance.source": "sources[].key",
    "Instance.workload": "workload[].key",
    "Member.host": "workload[].pods[].ip",
    "ModelDeployment.source": "sources[].key",
    "Queue.source": "sources[].key",
    "Task.model": "litellm[].model",
    "Task.queue": "queues[].name",
    "Workload.source": "sources[].key",
}
UNTRUSTED = {
    *("Finding.summary", "Root.path", "Root.name"),
    *("Evidence.path", "Evidence.value", "Effect.path"),
    *("Agent.name", "Agent.namespace", "Agent.description"),
    *("Instance.id", "Instance.version", "Failure.task_id", "Failure.error"),
    *("Ended.id", "Ended.parent_id", "Ended.error", "Ended.instance"),
    *("Task.id", "Task.parent_id", "Task.step", "Task.instance", "Wait.name", "Wait.task"),
    *("Member.client_id", "PendingTask.id", "PendingTask.invoked_by"),
    *("PendingTask.prompt", "PendingTask.args", "Priority.blocked_task"),
    *("Live.message", "Pod.message", "ModelCaller.name"),
}
# Numbers that count nothing: names, codes, versions, values of any field; and a mapping of counts
# of various things.
WITHOUT_UNIT = {
    *("Finding.rank", "Finding.truncated", "Evidence.value"),
    *("State.schema_version", "State.revision"),
    *("Task.partition", "Task.offset", "PendingTask.partition", "PendingTask.offset"),
    *("Ended.partition", "Ended.offset", "PartitionLag.partition", "LastExit.exit_code"),
    *("Cooldowns.status_code", "ModelError.status_code", "Refusal.status_code"),
    *("SourceRow.truncated", "Agent.truncated", "ModelDeployment.truncated"),
    *("Queue.truncated", "Workload.truncated"),
}

Json = dict[str, Any]


def fields() -> Iterator[tuple[str, Json]]:
    """(`Type.field`, its schema)."""
    whole = schema()
    for name, definition in {"State": whole, **whole["$defs"]}.items():
        for field, said in definition["properties"].items():
            yield f"{name}.{field}", said


def marked(mark: str) -> dict[str, Any]:
    return {name: said[mark] for name, said in fields() if mark in said}


def types_of(said: Json) -> set[str]:
    """The JSON types of a field, those of what is in it too; `date-time` is one."""
    inner = [said, *said.get("anyOf", [])]
    inner += [one["additionalProperties"] for one in inner if "additionalProperties" in one]
    return {one[word] for one in inner for word in ("type", "format") if word in one}


def test_it_is_a_schema_of_the_whole_document_without_an_address():
    whole = schema()
    jsonschema_rs.meta.validate(whole)
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert whole["$id"] == "urn:telemetron:state:1"
    assert "x-telemetron-untrusted" in whole["description"]
    # Every mark that stands anywhere is explained.
    marks = {mark for _, said in fields() for mark in said if mark.startswith("x-")}
    assert all(f"`{mark}`" in whole["description"] for mark in marks)


def test_every_field_of_every_type_is_described_and_required():
    whole = schema()
    for name, said in fields():
        assert said["description"].endswith("."), name
        assert "default" not in said, name
    for definition in whole["$defs"].values():
        assert definition["required"] == list(definition["properties"])
        assert definition["description"]
        assert "additionalProperties" not in definition
    assert set(whole["properties"]) - set(whole["required"]) == SECTIONS


def test_every_timestamp_says_whose_clock_it_is():
    clocks = marked("x-telemetron-clock")
    assert set(clocks) == {name for name, said in fields() if "date-time" in types_of(said)}
    assert set(clocks.values()) == {"telemetron", "agent", "kubernetes", "submitter", "evidence"}
    assert clocks["Task.progressed_at"] == "agent"


def test_every_number_that_counts_something_has_a_unit():
    numbers = {name for name, said in fields() if types_of(said) & {"integer", "number"}}
    assert numbers - set(marked("x-telemetron-unit")) == WITHOUT_UNIT


def test_measures_refs_and_foreign_text_are_marked():
    measures = marked("x-telemetron-measure")
    assert {name for name, kind in measures.items() if kind == "level"} == LEVELS
    assert {name for name, kind in measures.items() if kind == "sample"} == SAMPLES
    assert marked("x-telemetron-ref") == REFS
    assert set(marked("x-telemetron-untrusted")) == UNTRUSTED


# documents

PLAIN = {
    str: "x",
    int: 1,
    float: 0.5,
    bool: True,
    dict[str, int]: {"x": 1},
    datetime: datetime(2030, 1, 1, tzinfo=UTC),
}


def made(hint: Any, *, items: int = 1, nulls: bool = False) -> Any:
    """A value of a type, with so many items in every list, null wherever it may or nowhere."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        hints = get_type_hints(hint, include_extras=True)
        return hint(**{name: made(one, items=items, nulls=nulls) for name, one in hints.items()})
    if get_origin(hint) is Annotated:
        return made(get_args(hint)[0], items=items, nulls=nulls)
    if get_origin(hint) is list:
        return [made(get_args(hint)[0], items=items, nulls=nulls)] * items
    if get_origin(hint) in (Union, UnionType):
        choices = [one for one in get_args(hint) if one not in (NoneType, UnsetType)]
        can_be_null = NoneType in get_args(hint)
        return None if nulls and can_be_null else made(choices[0], items=items, nulls=nulls)
    return PLAIN[hint]


@pytest.fixture
def validator() -> Any:
    return jsonschema_rs.Draft202012Validator(schema(), validate_formats=True)


def decoded(state: Any) -> Any:
    return json.loads(msgspec.json.encode(state))


@pytest.mark.parametrize(("items", "nulls"), [(1, False), (1, True), (0, True)])
def test_all_that_the_types_can_say_is_valid(validator, items, nulls):
    validator.validate(decoded(made(State, items=items, nulls=nulls)))


def test_what_the_types_cannot_say_is_not_valid(validator):
    good = decoded(made(State))
    for path in ("findings", "agents", "queues", "workload", "litellm", "sources"):
        for field in good[path][0]:
            bad = json.loads(json.dumps(good))
            del bad[path][0][field]
            assert not validator.is_valid(bad), f"{path} without {field}"
    assert not validator.is_valid(good | {"revision": None})
    assert not validator.is_valid(good | {"changed_at": "yesterday"})
    assert validator.is_valid(good | {"a_later_field": 1})
    assert validator.is_valid({name: good[name] for name in good if name not in SECTIONS})


async def test_a_real_document_is_valid(live, validator):
    beat = {
        "instance": "one",
        "sent_at": "2020-01-01T00:00:00Z",
        "outcomes": {"completed": 1},
        "tasks": [{"id": "t", "waits": [{"kind": "llm", "name": "gpt"}], "progressed_at": None}],
    }
    answer = await live.client.post("/agents/planner/heartbeat", json=beat)
    assert answer.status_code == 204
    live.app.service.store.flush()
    for path in ("", "/agents", "/agents/-/planner", "/sources", "?sections=queues"):
        document = (await live.client.get(f"/system/state{path}")).json()
        validator.validate(document)


# the same everywhere


async def test_it_is_printed_and_always_the_same():
    printed = [await _printed(seed) for seed in ("1", "2")]
    assert printed[0] == printed[1]
    assert json.loads(printed[0]) == schema()


async def _printed(seed: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetron", "schema"),
        env={**os.environ, "PYTHONHASHSEED": seed},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out
