"""`telemetron task`: the lines for a terminal, and the command."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from telemetron.cli.task import lines
from tests.telemetron.cli.program import (
    answering,
    beat,
    failing_on_terminal,
    invoke,
    on_terminal,
    refused,
)

NOW = datetime(2030, 1, 1, 10, tzinfo=UTC)
THEN = "2030-01-01T09:55:00Z"


def shown(**answer: Any) -> list[str]:
    return list(lines({"id": "t", "where": "unknown", "note": "", **answer}, NOW))[1:]


def test_the_first_line_is_the_word() -> None:
    assert list(lines({"id": "t", "where": "lost", "several": 2}, NOW)) == [
        "t  lost  (2 tasks have this id)"
    ]


def test_a_run_with_its_waits_and_its_pod() -> None:
    wait = {"kind": "llm", "name": "gpt-5", "since": THEN, "status": "cooling_down"}
    pod = {"pod_id": "w-1", "status": "Running", "ready": False, "reason": "Oom", "restarts": 3}
    run = {"agent": "prod/w", "instance": "w-1", "step": "draft", "stalled": True}
    run |= {"started_on": THEN, "waits": [wait], "pod": pod}
    assert shown(active=[run]) == [
        "active  prod/w  w-1  draft  stalled  started 5m ago",
        "  waits for llm  gpt-5  cooling_down  5m",
        "  pod w-1  Running  Oom  not ready  restarts 3",
    ]


def test_a_pending_record() -> None:
    one = {"queue": "q", "consumer_group": "g", "partition": 0, "offset": 7, "ahead": 3}
    one |= {"ahead_exact": False, "submitted_at": THEN, "consumers": 1, "agents": ["prod/w"]}
    one |= {"consumed_by": [{"client_id": "c", "host": "h"}]}
    assert shown(waiting=[one]) == [
        "waiting  q  g  0  7  at most 3 ahead  submitted 5m ago",
        "  consumers 1 (c  h); agents prod/w",
    ]


def test_the_worst_comes_first_and_the_past_last() -> None:
    finding = {"severity": "critical", "rule": "R", "summary": "s", "key": "k"}
    assert shown(
        timeline=[{"at": THEN, "event": "taken", "in": "agents/prod/w", "place": "ab.1"}],
        unchecked=[{"of": "kafka", "why": "it is stale"}],
        nearest=["t2"],
        parents=[{"id": "p", "where": "active"}],
        blocked_by=[{"kind": "agent", "name": "a", "by_task": "u", "cycle": True, "task": "x"}],
        ended=[{"agent": "prod/w", "status": "failed", "error": "E", "ended_at": THEN}],
        consumed=[{"queue": "q", "offset": 7}],
        findings=[finding],
        truncated={"children": 40, "findings": None},
    ) == [
        "critical  R  s",
        "consumed  q  7",
        "ended  prod/w  failed  E  ended 5m ago",
        "blocked by  agent  a  u  (x waits)  in a cycle",
        "parents  p active",
        "not looked at  kafka: it is stale",
        "similar  t2",
        "  5m ago  taken  agents/prod/w",
        "… children: 40 in all",
        "… findings: more in all",
    ]


def test_json_in_a_pipe_and_text_on_a_terminal(server: str) -> None:
    beat(server, "planner", tasks=[{"id": "a/[31mb c", "step": "plan"}])
    done = invoke("task", "a/[31mb c", "--url", server)
    assert (done.exit_code, json.loads(done.stdout)["where"]) == (0, "active")
    text = on_terminal("task", "a/[31mb c", "--url", server)
    assert text.splitlines()[0] == "a/[31mb c  active"
    assert "plan" in text.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["t", "--look", "-1"], "--look"),
        (["t", "--look", "50001"], "--look"),
        ([], "ID"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], said: str) -> None:
    done = invoke("task", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_no_such_task_is_1_with_one_line(server: str) -> None:
    line = refused(invoke("task", "", "--url", server), 1)
    assert "404 name a task" in line


def test_a_server_that_is_not_there_is_1() -> None:
    line = refused(invoke("task", "t", "--url", "http://127.0.0.1:1"), 1)
    assert "cannot be reached" in line


def test_an_answer_of_another_server_is_1() -> None:
    with answering(200, b'{"id":1}', **{"Content-Type": "application/json"}) as url:
        assert "unexpected response" in failing_on_terminal("task", "t", "--url", url)
