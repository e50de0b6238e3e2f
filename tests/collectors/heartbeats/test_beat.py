"""What is taken for a heartbeat, and what is said of everything else."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.collector import Collector, Config
from telemetron.document import Agent, State
from telemetron.history.delta import shapes
from telemetron.history.recorder import Recorder
from telemetron.http import HttpProblem
from telemetron.normal import LARGEST
from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.store.store import Publication, Store
from telemetron.testing import FakeClock
from telemetron_collectors.heartbeats.beat import (
    MAX_TASKS,
    MAX_WAITS,
    Beat,
    BeatFailure,
    BeatOutcomes,
    BeatTask,
    BeatWait,
    parse_beat,
)
from telemetron_collectors.heartbeats.register import Register

NOON = "2030-01-01T12:00:00Z"
FULL: dict[str, Any] = {
    "instance": "i",
    "boot_id": "b",
    "sequence": 7,
    "interval_seconds": 2.5,
    "sent_at": NOON,
    "namespace": "n",
    "pod_id": "pod",
    "version": "1",
    "started_at": NOON,
    "description": "d",
    "max_parallel_invocations": 4,
    "deployment_name": "d",
    "models": ["m"],
    "queues": ["q"],
    "tasks": [
        {
            "id": "t",
            "parent_id": "p",
            "status": "waiting",
            "started_on": NOON,
            "progressed_at": NOON,
            "step": "s",
            "waits": [{"kind": "agent", "name": "m", "since": NOON, "task": "t-2"}],
            "wait_count": 2,
            "queue": "q",
            "partition": 1,
            "offset": 2**62,
            "model": "m",
        }
    ],
    "task_count": 1,
    "ended": [
        {
            "id": "e",
            "parent_id": "p",
            "status": "failed",
            "error": "E",
            "started_on": NOON,
            "ended_at": NOON,
            "queue": "q",
            "partition": 1,
            "offset": 2**62,
        }
    ],
    "outcomes": {"completed": 1, "failed": 2, "canceled": 3},
    "last_failure": {"task_id": "f", "error": "E", "at": NOON},
}


def problem(body: bytes) -> HttpProblem:
    with pytest.raises(HttpProblem) as caught:
        parse_beat(body)
    return caught.value


def encoded(**fields: Any) -> bytes:
    return json.dumps({"instance": "i"} | fields).encode()


def test_the_full_beat_has_every_field() -> None:
    beat, unknown = parse_beat(json.dumps(FULL).encode())
    assert msgspec.to_builtins(beat) == FULL
    assert unknown == 0
    assert list(FULL) == list(Beat.__struct_fields__)


def test_the_instance_alone_is_a_beat() -> None:
    beat, unknown = parse_beat(b'{"instance":"i"}')
    assert (beat.instance, beat.interval_seconds, beat.tasks, unknown) == ("i", 5.0, [], 0)


def nulls(value: Any) -> Any:
    """The value with null in place of each field that may be left out, on every level."""
    required = {"instance", "id", "kind", "task_id"}
    if isinstance(value, list):
        return [nulls(item) for item in value]
    return {name: old if name in required else None for name, old in value.items()}


def test_null_means_missing_at_every_level() -> None:
    beat, unknown = parse_beat(json.dumps(nulls(FULL)).encode())
    assert (beat, unknown) == (Beat(instance="i"), 0)
    inner = {name: nulls(FULL[name]) for name in ("tasks", "outcomes", "last_failure")}
    beat, unknown = parse_beat(encoded(**inner, tasks_lost=None))
    assert unknown == 1
    assert beat.outcomes == BeatOutcomes()
    assert beat.last_failure == BeatFailure("f")
    assert beat.tasks == [BeatTask("t", status=None)]  # the one null with a meaning: unknown


def test_a_large_beat_with_nulls_does_not_block_the_loop() -> None:
    task = {
        "started_on": "2030-01-01T00:00:00Z",
        "waits": [{"kind": "llm"}] * 4,
        "wait_count": None,
    }
    large = encoded(tasks=[{**task, "id": str(n)} for n in range(1000)], models=None)
    seconds = []
    for _ in range(5):
        before = time.thread_time()
        parse_beat(large)
        seconds.append(time.thread_time() - before)
    # 0.1 s if each value's type is looked up again; measuring coverage takes three times as long.
    assert min(seconds) < (0.04 if sys.gettrace() is None else 0.2)


@pytest.mark.parametrize("zone", ["Z", "+00:00", ""])
def test_a_time_that_go_or_dotnet_has_not_set_is_unknown(zone: str) -> None:
    zero = "0001-01-01T00:00:00" + zone
    task = {
        "id": zero,
        "step": zero,
        "progressed_at": zero,
        "waits": [{"kind": "x", "since": zero}],
    }
    beat, unknown = parse_beat(encoded(sent_at=zero, started_at=zero, tasks=[task]))
    told = BeatTask(zero, step=zero, waits=[BeatWait("x")])
    assert (beat, unknown) == (Beat("i", tasks=[told]), 0)


def test_times_may_have_any_zone() -> None:
    beat, _ = parse_beat(encoded(sent_at="2030-01-01T14:00:00+02:00"))
    assert beat.sent_at == datetime(2030, 1, 1, 12, tzinfo=UTC)


MALFORMED = [
    b"",
    b"{",
    b'{"instance":"i"',
    b'{"instance":"i"} x',
    b'{"instance":i}',
    b"{'instance':'i'}",
    b'{"instance":"\xff"}',
    b'{"instance":"\\ud800"}',
    b'{"instance":"a\x00"}',
    b'{"instance":"i","interval_seconds":NaN}',
    b'{"instance":"i","interval_seconds":Infinity}',
    b"\xef\xbb\xbf" + b'{"instance":"i"}',
    '{"instance":"i"}'.encode("utf-16"),
]


@pytest.mark.parametrize("body", MALFORMED)
@pytest.mark.parametrize("prefix", [b"", b'"new":1,'], ids=["known", "unknown"])
def test_invalid_json_is_a_bad_request(body: bytes, prefix: bytes) -> None:
    found = problem(body.replace(b"{", b"{" + prefix, 1))
    assert found.status == 400
    assert found.detail.startswith("the beat is not JSON: ")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"null", "$"),
        (b"[]", "$"),
        (b"1e999", "$"),
        (b"{}", "$"),
        (encoded(instance=5), "$.instance"),
        (encoded(instance=""), "$.instance"),
        (encoded(instance=None), "$.instance"),
        (b'{"instance":"i","instance":5}', "$.instance"),
        (encoded(sequence=-1), "$.sequence"),
        (encoded(sequence=1.5), "$.sequence"),
        (encoded(sequence=True), "$.sequence"),
        (encoded(sequence=2**63), "$.sequence"),
        (b'{"instance":"i","sequence":' + b"9" * 4000 + b"}", "$.sequence"),
        (b'{"instance":"i","sequence":' + b"9" * 5000 + b"}", "$[...]"),  # too long to be read
        (encoded(interval_seconds=0.99), "$.interval_seconds"),
        (encoded(interval_seconds=301), "$.interval_seconds"),
        (b'{"instance":"i","interval_seconds":1e999}', "$.interval_seconds"),
        (encoded(sent_at="2030-01-01T00:00:00"), "$.sent_at"),
        (encoded(sent_at="yesterday"), "$.sent_at"),
        (encoded(sent_at=1893456000), "$.sent_at"),
        (encoded(max_parallel_invocations=0), "$.max_parallel_invocations"),
        (encoded(models=[None]), "$.models[0]"),
        (encoded(tasks=[None]), "$.tasks[0]"),
        (encoded(tasks=[{"id": None}]), "$.tasks[0].id"),
        (encoded(models=["m", ""]), "$.models[1]"),
        (encoded(tasks={}), "$.tasks"),
        (encoded(tasks=[{"id": "a"}, {"id": 5}]), "$.tasks[1].id"),
        (encoded(tasks=[{}]), "$.tasks[0]"),
        (
            encoded(tasks=[{"id": "a", "waits": [{"kind": "llm"}, {"name": "m"}]}]),
            "$.tasks[0].waits[1]",
        ),
        (encoded(outcomes={"completed": -1}), "$.outcomes.completed"),
        (encoded(last_failure={"at": NOON}), "$.last_failure"),
    ],
)
def test_an_invalid_value_is_named_by_its_path(body: bytes, path: str) -> None:
    found = problem(body)
    assert (found.status, found.more) == (422, {"path": path})
    assert found.detail.startswith(f"{path}: ")


@pytest.mark.parametrize("body", [b'{"new":1,"instance":5}', b'{"instance":5,"new":1}'])
def test_the_path_is_named_beside_unknown_fields_too(body: bytes) -> None:
    assert problem(body).more == {"path": "$.instance"}


def task(**fields: Any) -> dict[str, Any]:
    return {"tasks": [{"id": "t", **fields}]}


@pytest.mark.parametrize(
    ("most", "too_much", "path"),
    [
        *(
            ({name: "x" * 256}, {name: "x" * 257}, f"$.{name}")
            for name in ("instance", "boot_id", "namespace", "pod_id", "version")
        ),
        ({"description": "x" * 1000}, {"description": "x" * 1001}, "$.description"),
        ({"models": ["m"] * 64}, {"models": ["m"] * 65}, "$.models"),
        ({"queues": ["x" * 256]}, {"queues": ["x" * 257]}, "$.queues[0]"),
        ({"task_count": 2**53}, {"task_count": 2**53 + 1}, "$.task_count"),
        (
            {"max_parallel_invocations": 10**6},
            {"max_parallel_invocations": 10**6 + 1},
            "$.max_parallel_invocations",
        ),
        ({"tasks": [{"id": "t"}] * MAX_TASKS}, {"tasks": [{"id": "t"}] * 1001}, "$.tasks"),
        (
            task(waits=[{"kind": "llm"}] * MAX_WAITS),
            task(waits=[{"kind": "llm"}] * (MAX_WAITS + 1)),
            "$.tasks[0].waits",
        ),
        (task(step="x" * 1000), task(step="x" * 1001), "$.tasks[0].step"),
        (task(status="x" * 256), task(status="x" * 257), "$.tasks[0].status"),
        (task(offset=2**63 - 1), task(offset=2**63), "$.tasks[0].offset"),
    ],
)
def test_bounds(most: dict[str, Any], too_much: dict[str, Any], path: str) -> None:
    parse_beat(encoded(**most))
    assert problem(encoded(**too_much)).more == {"path": path}


def test_unknown_fields_are_ignored_and_counted_on_every_level() -> None:
    tasks = [{"id": "a", "x": 1, "waits": [{"kind": "llm", "y": {"id": 1}}]}, {"id": "b", "z": []}]
    found, unknown = parse_beat(
        encoded(tasks=tasks, outcomes={"lost": 1}, last_failure={"task_id": "t", "a": 1}, top={})
    )
    assert unknown == 6
    assert [task.id for task in found.tasks] == ["a", "b"]
    assert found.tasks[0].waits[0].kind == "llm"


def test_of_a_duplicate_key_the_last_one_counts() -> None:
    assert parse_beat(b'{"instance":"a","instance":"b"}')[0].instance == "b"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"tasks":' + b"[" * 100_000,
        b'{"new":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"new":' + b'{"a":' * 50_000,
    ],
)
def test_deep_nesting_is_refused(body: bytes) -> None:
    assert problem(body).status in (400, 422)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

TIMES = st.sampled_from(
    [NOON, "2030-01-01T14:00:00+02:00", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
)


def nearly(value: Any) -> st.SearchStrategy[Any]:
    """The value as it is, or with something else somewhere within."""
    parts: st.SearchStrategy[Any] = st.just(value)
    if isinstance(value, dict):
        fields = {name: nearly(item) for name, item in value.items()}
        parts = st.fixed_dictionaries({}, optional=fields | {"new": JSON})
    elif isinstance(value, list):
        parts = st.lists(nearly(value[0]), max_size=3)
    elif value == NOON:
        parts = TIMES
    elif isinstance(value, str):
        parts = st.text(min_size=1, max_size=9) | parts
    elif isinstance(value, int):
        parts = st.integers(0, 2**63) | parts
    return st.one_of(parts, parts, parts, JSON)


BODIES = (
    nearly(FULL)
    .map(lambda body: body | {"instance": "i"} if isinstance(body, dict) else body)
    .map(json.dumps)
    .map(str.encode)
)


collector = Collector(
    name="heartbeats",
    description="",
    config=Config,
    sections=("agents",),
    max_age_seconds=lambda config: 30,
    run=lambda config, output: asyncio.sleep(0),
)


class Heart:
    """A register that writes to a real store, with one agent that is well."""

    def __init__(self) -> None:
        self.store = Store("test", FakeClock())
        self.source = self.store.add("heartbeats", "heartbeats")
        self.source.start(30)
        output = BoundOutput(self.store, self.source, collector, Mounts())
        self.register = Register(output, stall_after=300, forget_after=3600)
        self.beat("good", json.dumps(FULL).encode())

    def beat(self, name: str, body: bytes) -> int:
        """What the beat is answered."""
        try:
            self.register.beat(name, parse_beat(body)[0])
        except HttpProblem as found:
            msgspec.json.decode(found.body())
            return found.status
        return 204

    def document(self) -> bytes:
        self.store.flush()
        return b"".join(self.store.snapshot.chunks(("agents",)))

    def agents(self) -> list[Agent]:
        """As a reader sees them; nothing may be refused on the way."""
        state = msgspec.json.decode(self.document(), type=State)
        assert not self.source.problems
        return state.agents or []


@settings(max_examples=50, deadline=None)
@given(st.lists(BODIES | st.binary(max_size=50), max_size=5))
def test_any_accepted_beat_gives_a_valid_document(bodies: list[bytes]) -> None:
    heart = Heart()
    for body in bodies:
        before = heart.document()
        status = heart.beat("any", body)
        assert status in (204, 400, 422)
        assert status == 204 or heart.document() == before
        assert "good" in [agent.name for agent in heart.agents()]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_at_the_end_of_the_calendar_is_shown(time: str) -> None:
    heart = Heart()
    failure = {"task_id": "t", "at": time}
    waits = [{"kind": "llm", "since": time}]
    task = {"id": "t", "started_on": time, "progressed_at": time, "waits": waits}
    body = encoded(sent_at=time, started_at=time, tasks=[task], last_failure=failure)
    assert heart.beat("any", body) == 204
    (agent, _) = heart.agents()
    assert agent.instances[0].started_at == datetime.fromisoformat(time[:19] + "Z")


def test_counts_of_many_instances_do_not_overflow() -> None:
    heart = Heart()
    for number in range(1000):
        assert heart.beat("any", encoded(instance=str(number), task_count=2**53)) == 204
    assert heart.agents()[0].activity.task_count == 1000 * 2**53


def test_counts_of_many_lives_and_waits_stop_at_the_largest_integer() -> None:
    heart = Heart()
    recorder = Recorder(shapes(), heart.store.snapshot)
    publications: list[Publication] = []
    heart.store.watchers.append(publications.append)
    outcomes = dict.fromkeys(("completed", "failed", "canceled"), 2**53)
    waiting = [{"id": f"t{number}", "wait_count": 2**53} for number in range(1000)]
    for instance in ("i", "j"):
        body = {"instance": instance, "outcomes": outcomes, "task_count": 2**53}
        for boot in range(1100):
            assert heart.beat("any", encoded(**body, boot_id=str(boot))) == 204
        assert heart.beat("any", encoded(**body, boot_id="last", tasks=waiting)) == 204
        (agent, _) = heart.agents()  # publishes
    for publication in publications:
        for _ in recorder.record(publication, 0.0):
            pass
    assert len(recorder.last.entries) == 1
    assert agent.activity.ended_count == LARGEST
    assert [one.tasks_lost for one in agent.instances] == [LARGEST, LARGEST]
    assert (agent.truncated or {})["activity.active_task_ids.waits"] == LARGEST


def test_control_characters_are_not_shown() -> None:
    heart = Heart()
    body = encoded(instance="a\u0000\u202eb", description="one\ntwo\x1b[31m", namespace="n\x7f")
    assert heart.beat("any", body) == 204
    (agent,) = [agent for agent in heart.agents() if agent.name == "any"]
    assert (agent.instances[0].id, agent.description) == ("ab", "one two[31m")
    assert agent.key == "n/any"


def outcome(body: dict[str, Any]) -> Any:
    try:
        return parse_beat(json.dumps(body).encode())[0]
    except HttpProblem as found:
        return found.status


@settings(max_examples=50, deadline=None)
@given(nearly(FULL).filter(lambda body: isinstance(body, dict)))
def test_unknown_fields_change_nothing_else(body: dict[str, Any]) -> None:
    body = {"instance": "i"} | body
    assert outcome({"new": 1} | body) == outcome(body)
