"""`telemetron findings`: the lines for a terminal, and the command."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from telemetron.cli.findings import events, lines
from telemetron.document import Effect, Finding, Root, SourceRow, State
from tests.telemetron.cli.program import (
    SECONDS,
    answering,
    beat,
    environment,
    failing_on_terminal,
    invoke,
    on_terminal,
    refused,
    serving,
)

NOW = datetime(2030, 1, 1, 10, tzinfo=UTC)
WRITER = "kubernetes/prod/Deployment/writer"


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def a_finding(rule: str, rank: int, **fields: Any) -> Finding:
    given = {"severity": "warning", "basis": "observed", "root": Root("workload", WRITER)}
    given |= {"summary": f"{rule} of writer", "since": ago(minutes=3), "raised_at": ago(minutes=2)}
    given |= {"observed_at": "ab.1", "runbook": "docs/findings.md"}
    return Finding(key=rule, rule=rule, rank=rank, **given | fields)


def shown(*findings: Finding, **statuses: str) -> list[str]:
    """Return the lines of a document with these findings and sources."""
    sources = [
        SourceRow(
            key=key,
            collector=key,
            status=status,
            since=NOW,
            max_age_seconds=10.0,
            last_ok_at=None,
            entities=0,
            problems=[],
        )
        for key, status in ({"findings": "ok"} | statuses).items()
        if status
    ]
    given = {"id": "prod", "schema_version": 1, "epoch": "ab", "revision": 1}
    given |= {"started_at": NOW, "changed_at": NOW, "sources": sources}
    return list(lines(State(**given, findings=list(findings)), NOW))


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ({"kafka": "ok", "litellm": "off"}, "no findings"),
        (
            {"kafka": "stale", "litellm": "failing", "kubernetes": "degraded"},
            "no findings (kafka is stale, kubernetes is degraded, litellm is failing)",
        ),
        ({"findings": "starting"}, "no findings (findings is starting)"),
        ({"findings": ""}, "no findings"),
        ({"findings": "off"}, "no findings (findings is off)"),
    ],
)
def test_nothing_wrong_names_the_sources_that_are_not_seen(
    statuses: dict[str, str], said: str
) -> None:
    assert shown(**statuses) == [said]


def test_findings_are_sorted_by_rank_and_have_their_effects() -> None:
    effects = [
        Effect("NoConsumers", "queues", "kafka/\x1b/g", None, ago(seconds=40)),
        Effect("TaskStalled", "agents", "prod/planner", "activity/active_task_ids/p-7"),
    ]
    node = Root("workload", WRITER, "pods/writer-1", "node", "node-7")
    many = {"effects": effects, "effect_count": 20, "unchecked": ["kafka"]}
    assert shown(
        a_finding("ImagePull", 2),
        a_finding("NodeLost", 1, severity="critical", root=node, **many),
    ) == [
        "critical  NodeLost  NodeLost of writer",
        f"  since 3m: workload {WRITER} pods/writer-1 node node-7, 20 effects",
        r"    NoConsumers  queues kafka/\x1b/g  40s",
        "    TaskStalled  agents prod/planner activity/active_task_ids/p-7  ?",
        "    … 18 more",
        "  not checked: kafka",
        "warning  ImagePull  ImagePull of writer",
        f"  since 3m: workload {WRITER}",
    ]


def test_one_effect_is_not_two() -> None:
    effects = [Effect("NoConsumers", "queues", "q", None, ago(seconds=40))]
    (_, line, _) = shown(a_finding("ImagePull", 1, effects=effects, effect_count=1))
    assert line.endswith(", 1 effect")


def test_only_beginnings_and_ends_are_events() -> None:
    finding = {"severity": "critical", "rule": "NodeLost", "summary": "node \x1b is lost"}
    change = {"section": "findings", "key": "k", "at": "2030-01-01T09:58:30Z"}
    answer = {
        "from": "ab.1",
        "to": "ab.2",
        "complete": True,
        "truncated": False,
        "changes": [
            change | {"change": "added", "new": finding},
            change | {"change": "changed", "fields": {"effect_count": {"old": 1, "new": 2}}},
            change | {"change": "removed", "old": finding, "at": None},
        ],
    }
    assert list(events(answer, None)) == [
        r"2030-01-01T09:58:30Z  began  critical  NodeLost  node \x1b is lost",
        r"ended  critical  NodeLost  node \x1b is lost",
    ]


def test_a_gap_is_an_event() -> None:
    gap = {"from": "ab.1", "to": "cd.2", "complete": False, "lost": "ab.1 is not kept"}
    assert list(events(gap, None)) == ["lost: ab.1 is not kept; changes before cd.2 are not known"]


# the command

FAST = """
findings:
  rules:
    SourceFailing: {hold_seconds: 0}
    Overloaded: {hold_seconds: 0, clear_seconds: 0}
sources: {gone: {}}
"""


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with the finding SourceFailing."""
    config = tmp_path_factory.mktemp("ill") / "t.yaml"
    config.write_text(FAST)
    with serving("--config", str(config)) as url:
        state = httpx.get(f"{url}/system/state/findings", timeout=SECONDS).json()
        while not state["findings"]:
            place = f"{state['epoch']}.{state['revision']}"
            asked = f"{url}/system/state/findings?since={place}&wait=20s"
            state = httpx.get(asked, timeout=SECONDS).json()
        yield url


def test_in_a_pipe_the_json_is_unchanged(ill: str) -> None:
    served = httpx.get(f"{ill}/system/state/findings", timeout=SECONDS).json()["findings"]
    done = invoke("findings", "--url", ill)
    assert (done.stderr, done.exit_code) == ("", 0)
    assert json.loads(done.stdout)["findings"] == served


def test_a_terminal_shows_text(ill: str) -> None:
    first, second, *_ = on_terminal("findings", "--url", ill).splitlines()
    assert first.startswith("warning  SourceFailing  ")
    assert re.fullmatch(r"  raised \d+s: sources gone", second)


def test_a_healthy_server_has_no_findings(server: str) -> None:
    shown = on_terminal("findings", "--url", server)
    assert re.fullmatch(r"no findings( \(.*heartbeats is starting\))?\s*", shown)


def test_the_state_on_a_terminal_begins_with_the_findings(ill: str) -> None:
    _, title, _, first, *_ = filter(None, on_terminal("state", "--url", ill).splitlines())
    assert "FINDINGS" in title
    assert "SourceFailing" in first


def test_an_unexpected_answer_is_an_error() -> None:
    line = refused(invoke("findings", "--url", "http://127.0.0.1:1"), 1)
    assert "cannot be reached" in line
    headers = {"Content-Type": "application/json"}
    with answering(200, b'{"findings": 5}', **headers) as url:
        error = failing_on_terminal("findings", "--url", url)
    assert "unexpected response" in error


@contextmanager
def watching(url: str, **pipes: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run `findings --watch`; end it with Ctrl-C."""
    command = [sys.executable, "-m", "telemetron", "findings", "--watch", "--url", url]
    with subprocess.Popen(command, text=True, env=environment(), **pipes) as watcher:
        try:
            yield watcher
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(SECONDS) == 130
        finally:
            watcher.kill()


def overload(url: str, count: int) -> None:
    """Let an agent run so many tasks, of which it can run one."""
    tasks = [{"id": f"t{number}"} for number in range(count)]
    beat(url, "busy", tasks=tasks, max_parallel_invocations=1)


def test_watch_on_a_terminal_shows_the_findings_and_each_beginning_and_end(ill: str) -> None:
    ours, theirs = pty.openpty()
    with watching(ill, stdout=theirs), os.fdopen(ours, encoding="utf-8") as terminal:
        os.close(theirs)
        assert terminal.readline().startswith("warning  SourceFailing")
        assert terminal.readline().startswith("  raised ")
        overload(ill, 3)
        began = r"\d{4}-\d\d-\d\dT\S+Z  began  warning  Overloaded  .*\n"
        assert re.fullmatch(began, terminal.readline())
        overload(ill, 0)
        assert re.fullmatch(began.replace("began", "ended"), terminal.readline())


def test_watch_in_a_pipe_shows_one_json_object_a_line(ill: str) -> None:
    with watching(ill, stdout=subprocess.PIPE) as watcher:
        count = 3
        while not select.select([watcher.stdout], [], [], 1)[0]:  # it may not listen yet
            overload(ill, count)
            count = 3 - count
        assert watcher.stdout
        (change,) = json.loads(watcher.stdout.readline())["changes"]
    finding = change["new"] if change["change"] == "added" else change["old"]
    assert finding["rule"] == "Overloaded"
