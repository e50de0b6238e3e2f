"""The real frameworks, with a stand-in for the model: their runs are tasks, their calls waits."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.stand_in import StandIn

HERE = Path(__file__).parent
EXAMPLES = Path(__file__).parents[3] / "examples"


def moments(stand_in: StandIn, id: str | None = None) -> list[tuple[str | None, list[str]]]:
    """(step, waits) of each active task in each beat; the same in a row once."""
    told: list[tuple[str | None, list[str]]] = []
    for beat in stand_in.beats:
        for task in beat["tasks"]:
            moment = (task["step"], [f"{wait['kind']} {wait['name']}" for wait in task["waits"]])
            if task["id"] == (id or task["id"]) and told[-1:] != [moment]:
                told.append(moment)
    return told


def came_in_order(told: list[Any], wanted: list[Any]) -> bool:
    left = iter(told)
    return all(each in left for each in wanted)


def ended(process: Any) -> str:
    """What it said on stderr; it must have ended well."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "telemetron" not in errors.lower(), errors
    return errors


def outcomes(stand_in: StandIn) -> dict[str, int]:
    """How its tasks ended; each is listed as ended too."""
    last: dict[str, int] = stand_in.beats[-1]["outcomes"]
    assert stand_in.beats[-1]["tasks"] == []
    assert Counter(status for _, status, _ in ends(stand_in)) == Counter(last)
    return last


def ends(stand_in: StandIn) -> list[tuple[str, str, str | None]]:
    """(id, status, error) of each end that a beat listed; repeated ones once."""
    found = {(end["id"], end["ended_at"]): end for beat in stand_in.beats for end in beat["ended"]}
    return [(end["id"], end["status"], end.get("error")) for end in found.values()]


def test_langgraph(run, frameworks, stand_in: StandIn) -> None:
    ended(run(HERE / "programs" / "with_langgraph.py", url=stand_in.url, python=frameworks))
    told = moments(stand_in)
    assert came_in_order(told, [("work", ["llm None"]), (None, ["llm None"])]), told
    assert ("work", ["llm None"]) in moments(stand_in, "mine")
    # ask, stream, the program's own, 20 at once, two bare models, two interrupted; a node; two
    # graphs, four bare models
    assert outcomes(stand_in) == {"completed": 27, "failed": 1, "canceled": 6}
    failures = {beat["last_failure"]["error"] for beat in stand_in.beats if beat["last_failure"]}
    assert failures == {"KeyError"}
    # A node that returned has not ended the wait of the one that hangs.
    assert [waits for _, waits in told if "llm slow" in waits][-1] == ["llm slow"]


def test_an_interrupted_graph_goes_on_as_the_same_task(run, frameworks, stand_in) -> None:
    ended(run(HERE / "programs" / "with_langgraph.py", url=stand_in.url, python=frameworks))
    asked: dict[str, list[str]] = {}
    for beat in stand_in.beats:
        for task in beat["tasks"]:
            steps = asked.setdefault(task["id"], [])
            if [wait["kind"] for wait in task["waits"]] == ["human"] and task["step"] not in steps:
                steps.append(task["step"])
    # Of two threads; the second one is asked once more without a beat in between.
    first, second = [steps for steps in asked.values() if steps]
    assert first == ["approve", "again"]
    assert second[0] == "approve"


def test_openai_agents(run, frameworks, stand_in: StandIn) -> None:
    ended(run(HERE / "programs" / "with_openai_agents.py", url=stand_in.url, python=frameworks))
    told = moments(stand_in)
    assert came_in_order(
        told,
        [
            ("first", ["llm fake"]),  # asking a model closes what was left open before
            ("handed over to second", []),
            ("second", ["llm fake"]),
            ("failing", ["llm fake"]),
            ("streaming", ["llm fake"]),
        ],
    ), told
    assert ("top", ["agent top", "llm fake"]) in moments(stand_in, "mine")
    subs = [task for beat in stand_in.beats for task in beat["tasks"] if task["step"] == "sub"]
    assert {task["parent_id"] for task in subs} == {"mine"}
    looking = moments(stand_in, "looking")
    assert ("looker", ["queue its own", "tool look"]) in looking  # of two calls the slow one
    assert looking[-2:] == [
        ("looker", ["queue its own", "llm fake"]),
        ("looker", ["queue its own"]),
    ]
    # handed over, streamed, an agent as a tool and the program's tasks, sync
    assert outcomes(stand_in) == {"completed": 6, "failed": 2, "canceled": 1}


def test_pydantic_ai(run, frameworks, stand_in: StandIn) -> None:
    ended(run(HERE / "programs" / "with_pydantic_ai.py", url=stand_in.url, python=frameworks))
    told = moments(stand_in)
    assert ("working", ["llm fake"]) in told
    assert ("working", ["tool left", "tool right"]) in told
    assert (None, ["llm fake"]) in moments(stand_in, "mine")
    # An agent that returned has not ended the wait of the one beside it.
    assert (None, ["llm slow"]) in moments(stand_in, "both")
    assert outcomes(stand_in) == {"completed": 4, "failed": 1, "canceled": 1}


def test_crewai(run, frameworks, stand_in: StandIn) -> None:
    ended(run(HERE / "programs" / "with_crewai.py", url=stand_in.url, python=frameworks))
    told = moments(stand_in)
    assert came_in_order(
        told,
        [
            ("research", ["llm fake"]),
            ("research", ["tool look"]),
            ("research", ["llm fake"]),  # the tool has answered
            ("research", ["llm failing"]),
        ],
    ), told
    assert ("research", ["tool look"]) in moments(stand_in, "mine")
    # A task of the crew that returned has not ended the wait of the one beside it.
    assert ["llm slow"] in [waits for _, waits in moments(stand_in, "both")]
    assert outcomes(stand_in) == {"completed": 4, "failed": 1, "canceled": 0}


def test_celery(run, frameworks, stand_in: StandIn, tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    broker.mkdir()
    program = HERE / "programs" / "with_celery.py"
    worker = run(program, str(broker), url=stand_in.url, python=frameworks)
    stand_in.wait_for_beat(  # work, retry, replace, requeue, parent, child, retried; fail, reject
        lambda beat: beat["outcomes"] == {"completed": 7, "failed": 2, "canceled": 1}
    )
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate(timeout=60)
    assert "telemetron_agent" not in errors
    assert ("asking", ["llm m"]) in moments(stand_in, "work")
    (child,) = {
        (task["parent_id"], task["queue"])
        for beat in stand_in.beats
        for task in beat["tasks"]
        if task["id"] == "child"
    }
    assert child == ("parent", "questions")
    retried = {
        (task["id"], task["parent_id"])
        for beat in stand_in.beats
        for task in beat["tasks"]
        if task["step"] == "retry"
    }
    assert retried == {("retry", None), ("retried", "parent")}
    failures = {beat["last_failure"]["error"] for beat in stand_in.beats if beat["last_failure"]}
    assert failures == {"KeyError", "Reject"}
    assert {id: (status, error) for id, status, error in ends(stand_in)} == {
        **dict.fromkeys(
            ("work", "retry", "replace", "requeue", "parent", "child", "retried"),
            ("completed", None),
        ),
        "fail": ("failed", "KeyError"),
        "reject": ("failed", "Reject"),
        "ignore": ("canceled", None),
    }
    # The worker itself, which runs no task, said goodbye; its child process says what it does.
    assert stand_in.goodbyes[0] == "/agents/celery/instances/worker"
    assert all(beat["instance"] != "worker" for beat in stand_in.beats if beat["tasks"])


def test_celery_tasks_whose_process_was_killed(run, frameworks, stand_in, tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    broker.mkdir()
    program = HERE / "programs" / "with_celery.py"
    worker = run(program, str(broker), "killed", url=stand_in.url, python=frameworks)
    for id in ("hang", "die", "expired", "work"):
        stand_in.wait_for_beat(lambda beat, id=id: id in [end["id"] for end in beat["ended"]])
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate(timeout=60)
    assert "telemetron_agent" not in errors
    assert {id: (status, error) for id, status, error in ends(stand_in)} == {
        "hang": ("failed", "TimeLimitExceeded"),
        "die": ("failed", "WorkerLostError"),
        "expired": ("canceled", None),
        "work": ("completed", None),
    }


@pytest.mark.parametrize(
    "example",
    ["plain_agent", "langgraph_agent", "openai_agents_agent", "pydantic_ai_agent", "crewai_crew"],
)
def test_an_example_is_seen(run, frameworks, telemetron, example: str) -> None:
    process = run(EXAMPLES / f"{example}.py", url=telemetron.url, python=frameworks)
    agents = telemetron.wait_for(
        lambda agents: (
            agents
            and agents[0]["activity"]["active_task_ids"]
            and agents[0]["activity"]["active_task_ids"][0]["waits"]
        ),
        seconds=60,
    )
    (task,) = agents[0]["activity"]["active_task_ids"]
    assert [(wait["kind"], wait["name"]) for wait in task["waits"]] == [("llm", "stand-in")]
    ended(process)
    telemetron.wait_for(lambda agents: agents == [])


def test_the_celery_example_is_seen(run, frameworks, telemetron, tmp_path: Path) -> None:
    process = run(
        EXAMPLES / "celery_worker.py", str(tmp_path / "q"), url=telemetron.url, python=frameworks
    )
    agents = telemetron.wait_for(
        lambda agents: agents and agents[0]["activity"]["active_task_ids"], seconds=60
    )
    task = agents[0]["activity"]["active_task_ids"][0]
    assert (task["step"], task["queue"]) == ("research", "questions")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    telemetron.wait_for(lambda agents: agents == [])


def test_records_of_kafka_python(run, frameworks) -> None:
    source = """
from kafka.consumer.fetcher import ConsumerRecord
from telemetron_agent.record import read
fields = dict.fromkeys(ConsumerRecord._fields)
fields.update(topic="q", partition=0, offset=1, value=b'{"id": "t"}', headers=[])
print(read(ConsumerRecord(**fields)))
"""
    output, errors = run(source, python=frameworks).communicate(timeout=60)
    assert output == "Record(id='t', queue='q', partition=0, offset=1)\n", errors
