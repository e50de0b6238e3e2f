from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from telemetron_agent import Agent


def test_the_fields_of_a_beat(stand_in, monkeypatch) -> None:
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
        "ended": [],
        "task_count": 0,
        "outcomes": {"completed": 0, "failed": 0, "canceled": 0},
        "last_failure": None,
    }
    assert stand_in.goodbyes == [f"/agents/researcher/instances/{agent.instance}?namespace=agents"]


def test_unknown_facts_are_null(stand_in) -> None:
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


def test_tasks_beyond_the_limit_are_counted(stand_in) -> None:
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
def test_an_invalid_url_is_logged_once(url, caplog) -> None:
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


def test_invalid_arguments_do_no_harm(stand_in) -> None:
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


@pytest.mark.parametrize("token", ["t\n", " t ", "t"])
def test_a_token_is_stripped(stand_in, monkeypatch, token: str) -> None:
    with Agent("x", url=f" {stand_in.url}\n", token=token):
        assert stand_in.wait_for_count(1)[0].headers["authorization"] == "Bearer t"


def test_an_invalid_token_is_logged_once(stand_in, monkeypatch, caplog) -> None:
    monkeypatch.setenv("TELEMETRON_TOKEN", "sec\nret")
    with Agent("x", url=stand_in.url) as agent:
        assert not agent.flush(10)
        assert not agent.flush(10)
    (record,) = [r for r in caplog.records if r.name == "telemetron_agent"]
    assert "the token has a character that HTTP headers" in record.getMessage()
    assert "sec" not in record.getMessage()
