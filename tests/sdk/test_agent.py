from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any

import pytest

from telemetron_agent import Agent


def test_what_a_beat_tells(stand_in, monkeypatch) -> None:
    monkeypatch.setenv("POD_NAME", "researcher-0")
    monkeypatch.setenv("POD_NAMESPACE", "agents")
    with Agent(
        "researcher",
        url=stand_in.url,
        version="1.2",
        description="reads",
        deployment_name="researchers",
        models=["m"],
        queues=("q", "r"),
        max_parallel=2,
        interval=60,
    ) as agent:
        beat = stand_in.wait_for_beat(lambda beat: beat["sequence"] == 1)
    assert agent.instance == f"researcher-0-{os.getpid()}"
    assert beat.pop("sent_at") >= beat.pop("started_at")
    assert beat == {
        "instance": agent.instance,
        "boot_id": agent.boot_id,
        "sequence": 1,
        "interval_seconds": 60,
        "namespace": "agents",
        "pod_id": "researcher-0",
        "version": "1.2",
        "description": "reads",
        "deployment_name": "researchers",
        "models": ["m"],
        "queues": ["q", "r"],
        "max_parallel_invocations": 2,
        "tasks": [],
        "task_count": 0,
        "outcomes": {"completed": 0, "failed": 0, "canceled": 0},
        "last_failure": None,
    }
    assert stand_in.goodbyes == [f"/agents/researcher/instances/{agent.instance}?namespace=agents"]


def test_what_is_not_known_is_null(stand_in) -> None:
    with Agent("x", url=stand_in.url, interval=60) as agent:
        beat = stand_in.wait_for_beat(lambda beat: True)
    assert agent.instance == f"{socket.gethostname()}-{os.getpid()}"
    unknown = ["namespace", "pod_id", "version", "description", "deployment_name"]
    assert [beat[name] for name in [*unknown, "max_parallel_invocations"]] == [None] * 6
    assert stand_in.goodbyes == [f"/agents/x/instances/{agent.instance}"]


def test_a_long_pod_name(monkeypatch) -> None:
    monkeypatch.setenv("POD_NAME", "p" * 253)
    with Agent("x") as agent:
        assert agent.instance == "p" * 240 + f"-{os.getpid()}"


def test_a_task_is_seen_while_it_runs(stand_in) -> None:
    with Agent("x", url=stand_in.url, interval=60) as agent:
        with agent.task("t-1", queue="q") as task:
            stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
            task.progress("reading")
            stand_in.wait_for_beat(
                lambda beat: beat["tasks"] and beat["tasks"][0]["step"] == "reading"
            )
            with task.wait("tool", "summarise"):
                stand_in.wait_for_beat(
                    lambda beat: beat["tasks"] and beat["tasks"][0]["status"] == "waiting"
                )
        beat = stand_in.wait_for_beat(lambda beat: beat["outcomes"]["completed"] == 1)
        assert (beat["tasks"], beat["task_count"]) == ([], 0)
        with pytest.raises(KeyError), agent.task("t-2"):
            raise KeyError("a secret")
        failure = stand_in.wait_for_beat(lambda beat: beat["last_failure"])["last_failure"]
    assert (failure["task_id"], failure["error"]) == ("t-2", "KeyError")
    assert failure["at"].endswith("Z")


def test_more_tasks_than_a_beat_tells(stand_in) -> None:
    with Agent("x", url=stand_in.url, interval=60) as agent:
        tasks = [agent.task() for _ in range(1100)]
        beat = stand_in.wait_for_beat(lambda beat: beat["task_count"] == len(tasks))
    assert len(beat["tasks"]) == 1000


def test_url_and_token_from_the_environment(stand_in, monkeypatch) -> None:
    monkeypatch.setenv("TELEMETRON_URL", stand_in.url)
    monkeypatch.setenv("TELEMETRON_TOKEN", "t")
    with Agent("x"):
        first = stand_in.wait_for_count(1)[0]
    assert first.headers["authorization"] == "Bearer t"


def test_arguments_go_before_the_environment(stand_in, monkeypatch) -> None:
    monkeypatch.setenv("TELEMETRON_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TELEMETRON_TOKEN", "t")
    monkeypatch.setenv("POD_NAME", "p")
    with Agent(
        "x", url=stand_in.url, token="mine", pod_id="pod", namespace="n", instance="i"
    ) as agent:
        first = stand_in.wait_for_count(1)[0]
    assert first.headers["authorization"] == "Bearer mine"
    assert (agent.pod_id, agent.namespace, agent.instance) == ("pod", "n", "i")


def test_without_a_url_every_call_works() -> None:
    before = threading.active_count()
    with Agent("x") as agent:
        with agent.task("t") as task, task.wait("llm", "m"):
            task.progress("on")
        agent.task().end("failed", error="Timeout")
        assert threading.active_count() == before


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://me:secret@host:port", 5])
def test_an_unusable_url_is_said_once(url, caplog) -> None:
    before = threading.active_count()
    with Agent("x", url=url) as agent, agent.task():
        assert threading.active_count() == before
    (record,) = [r for r in caplog.records if r.name == "telemetron_agent"]
    assert record.levelno == logging.WARNING
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    ("interval", "told"),
    [(0, 1), (-1, 1), (1000, 300), (7, 7), ("8", 8), ("often", 5), (None, 5), (float("nan"), 300)],
)
def test_the_interval_is_bounded(stand_in, interval, told: float) -> None:
    with Agent("x", url=stand_in.url, interval=interval):
        assert stand_in.wait_for_count(1)[0].beat["interval_seconds"] == told


def test_nonsense_does_no_harm(stand_in) -> None:
    nonsense = {"models": 5, "queues": "q", "max_parallel": "many", "version": object(), "token": 5}
    with Agent(None, url=stand_in.url, description="d" * 1000, **nonsense) as agent:
        task = agent.task(object(), partition="p", offset=float("inf"), queue=b"q")
        task.progress(object())
        task.wait(None, object())  # type: ignore[arg-type]
        beat = stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
        task.end(None, object())  # type: ignore[arg-type]
    assert agent.name == "unnamed"
    assert (beat["models"], beat["queues"]) == (["5"], ["q"])
    assert beat["max_parallel_invocations"] is None
    assert len(beat["description"]) == 500
    assert beat["tasks"][0]["partition"] is None


def test_after_close_calls_still_work(stand_in) -> None:
    agent = Agent("x", url=stand_in.url, interval=60)
    stand_in.wait_for_count(1)
    agent.close()
    agent.close()
    count = len(stand_in.requests)
    with agent.task() as task:
        task.progress("unseen")
    assert len(stand_in.requests) == count
    assert len(stand_in.goodbyes) == 1


def test_many_threads(stand_in) -> None:
    with Agent("x", url=stand_in.url, interval=60) as agent:

        def work(number: int) -> None:
            with agent.task(f"t-{number}") as task, task.wait("tool"):
                task.progress("on")

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(2000)))
        beat = stand_in.wait_for_beat(lambda beat: beat["outcomes"]["completed"] == 2000)
    assert beat["task_count"] == 0


async def work(agent: Agent, started: asyncio.Event) -> None:
    with agent.task():
        started.set()
        await asyncio.Event().wait()


def test_a_canceled_asyncio_task(stand_in) -> None:
    async def main(agent: Agent) -> None:
        started = asyncio.Event()
        job = asyncio.create_task(work(agent, started))
        await started.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    with Agent("x", url=stand_in.url, interval=60) as agent:
        asyncio.run(main(agent))
        stand_in.wait_for_beat(lambda beat: beat["outcomes"]["canceled"] == 1)


def test_two_agents_of_a_name_are_one_instance(stand_in) -> None:
    with Agent("bot", url=stand_in.url, interval=60, models=["m"], description="first") as first:
        with Agent("bot", url=stand_in.url, interval=60, models=["m", "n"], version="2") as second:
            assert (first.instance, first.boot_id) == (second.instance, second.boot_id)
            with first.task("a"), second.task("b"):
                beat = stand_in.wait_for_beat(lambda beat: beat["task_count"] == 2)
        assert stand_in.goodbyes == []  # the first one goes on
        with first.task("c"):
            stand_in.wait_for_beat(lambda beat: [t["id"] for t in beat["tasks"]] == ["c"])
    assert (beat["models"], beat["description"], beat["version"]) == (["m", "n"], "first", "2")
    assert len(stand_in.goodbyes) == 1
    assert len({beat["boot_id"] for beat in stand_in.beats}) == 1


def test_an_agent_after_one_of_its_name_is_another_life(stand_in) -> None:
    for _ in range(2):
        with Agent("bot", url=stand_in.url, interval=60) as agent:
            assert agent.flush(10)
    methods = [request.method for request in stand_in.requests]
    assert methods.index("DELETE") > 0
    assert methods[-1] == "DELETE"
    boots = list(dict.fromkeys(beat["boot_id"] for beat in stand_in.beats))
    assert len(boots) == 2
    last = [request.beat.get("boot_id") for request in stand_in.requests]
    assert last.index(boots[1]) > methods.index("DELETE")  # else the goodbye would be the second's


def test_an_agent_after_one_that_never_reported_reports_at_once(stand_in) -> None:
    with Agent("bot", url=stand_in.url, interval=60) as agent:
        pickled = pickle.dumps(agent)
    stand_in.wait_for(lambda each: each.method == "DELETE")
    pickle.loads(pickled).close()
    with Agent("bot", url=stand_in.url, interval=60) as agent:
        assert agent.flush(3)


def test_agents_of_one_name_and_another_instance_are_apart(stand_in) -> None:
    url = stand_in.url
    with Agent("bot", url=url, instance="a") as a, Agent("bot", url=url, instance="b") as b:
        assert a.boot_id != b.boot_id
        assert a.flush(10)
        assert b.flush(10)
    assert {beat["instance"] for beat in stand_in.beats} == {"a", "b"}
    assert len(stand_in.goodbyes) == 2


@dataclasses.dataclass
class Holder:
    agent: Agent


def test_a_copy_of_an_agent_is_itself(stand_in) -> None:
    with Agent("bot", url=stand_in.url, token="secret", interval=60) as agent:
        assert copy.copy(agent) is copy.deepcopy(agent) is agent
        assert dataclasses.asdict(Holder(agent)) == {"agent": agent}
        pickled = pickle.dumps(Holder(agent))
        assert b"secret" not in pickled
        assert pickle.loads(pickled).agent is agent
        assert pickle.dumps(agent) == pickle.dumps(agent)


def held(function: Any) -> Iterator[Any]:
    """All that a function made in another one holds, which cloudpickle pickles with it."""
    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, FunctionType):
            yield from held(cell.cell_contents)
        else:
            yield cell.cell_contents


def test_all_that_a_decorated_function_holds_can_be_pickled(stand_in) -> None:
    with Agent("bot", url=stand_in.url, interval=60) as agent:
        for function in (agent.task(len), agent.task("nightly")(len)):
            assert len(list(held(function))) >= 2
            for each in held(function):
                pickle.loads(pickle.dumps(each))


def test_a_closed_agent_stays_closed_in_a_child(stand_in, python) -> None:
    source = """
import os
from telemetron_agent import Agent
agent = Agent("bot", instance="parent", interval=60)
agent.flush(10)
agent.close()
child = os.fork()
with agent.task("unseen"):
    agent.flush(1)
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""
    _, errors = python(source, stand_in.url).communicate(timeout=30)
    assert errors == ""
    assert {beat["instance"] for beat in stand_in.beats} == {"parent"}
    assert stand_in.goodbyes == ["/agents/bot/instances/parent"]


def test_a_pickled_agent_is_another_process_s_own(stand_in, python) -> None:
    source = """
import pickle, sys
agent = pickle.loads(bytes.fromhex(sys.stdin.readline()))
assert pickle.loads(pickle.dumps(agent)) is agent
with agent.task("elsewhere"):
    agent.flush(10)
print(agent.instance)
"""
    with Agent("bot", url=stand_in.url, instance="mine", models=["m"], interval=60) as agent:
        process = python(source)
        output, errors = process.communicate(pickle.dumps(agent).hex() + "\n", timeout=30)
        assert errors == ""
        told = stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
        assert agent.instance == "mine"
    assert told["instance"] == output.strip() == f"mine-{process.pid}"
    assert told["models"] == ["m"]
    assert f"/agents/bot/instances/mine-{process.pid}" in stand_in.goodbyes


@pytest.mark.parametrize("token", ["t\n", " t ", "t"])
def test_a_token_is_stripped(stand_in, monkeypatch, token: str) -> None:
    with Agent("x", url=f" {stand_in.url}\n", token=token):
        assert stand_in.wait_for_count(1)[0].headers["authorization"] == "Bearer t"


def test_a_token_that_cannot_be_sent_is_said_once(stand_in, monkeypatch, caplog) -> None:
    monkeypatch.setenv("TELEMETRON_TOKEN", "sec\nret")
    with Agent("x", url=stand_in.url) as agent:
        assert not agent.flush(10)
        assert not agent.flush(10)
    (record,) = [r for r in caplog.records if r.name == "telemetron_agent"]
    assert "the token has a character that HTTP headers" in record.getMessage()
    assert "sec" not in record.getMessage()
