"""`telemetron changes`: the lines for a terminal, and the command."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetron.cli.changes import lines
from tests.ports import free_port
from tests.telemetron.cli.program import (
    SECONDS,
    beat,
    environment,
    invoke,
    on_terminal,
    refused,
    serving,
)

NOW = datetime(2030, 1, 1, 10, tzinfo=UTC)
ANSWER = {
    "from": "ab.1",
    "to": "ab.2",
    "complete": True,
    "starting": [],
    "changes": [],
    "truncated": False,
    "next": None,
}


def test_no_changes():
    assert list(lines(ANSWER, NOW)) == ["nothing changed from ab.1 to ab.2"]


def test_an_entity_and_its_fields():
    change = {
        "section": "queues",
        "key": "kafka/tasks/\x1b",
        "change": "changed",
        "at": "2030-01-01T09:58:30Z",
        "fields": {
            "depth": {"old": None, "new": 41},
            "members/a": {"removed": {"client_id": "a", "host": None, "partitions": 0}},
            "group_state": {"old": "Stable", "new": "x" * 500},
        },
    }
    assert list(lines(ANSWER | {"changes": [change]}, NOW)) == [
        r"queues kafka/tasks/\x1b  changed 90s ago",
        "  depth  null → 41",
        '  members/a  removed {"client_id": "a", "partitions": 0}',
        f"  group_state  Stable → {'x' * 119}…",
    ]


def test_without_a_now_times_are_shown():
    change = {"section": "agents", "key": "a", "change": "changed", "at": "2030-01-01T09:58:30Z"}
    assert list(lines(ANSWER | {"changes": [change]}, None)) == [
        "agents a  changed at 2030-01-01T09:58:30Z"
    ]


def test_an_unknown_time_is_left_out():
    change = {"section": "agents", "key": "a", "change": "removed", "at": None, "old": {}}
    assert list(lines(ANSWER | {"changes": [change]}, NOW)) == ["agents a  removed"]


def test_incomplete_and_truncated_answers_say_so():
    answer = ANSWER | {"complete": False, "starting": ["kafka"], "truncated": True, "next": "/more"}
    assert list(lines(answer | {"to": "cd.2"}, NOW))[1:] == [
        "… more changes: /more",
        "incomplete: Telemetron restarted in between; sources that were still starting: kafka",
    ]
    answer = ANSWER | {"complete": False, "from_at": "2030-01-01T09:55:00Z"}
    assert list(lines(answer, NOW))[1:] == [
        "incomplete: nothing is known before 2030-01-01T09:55:00Z"
    ]


def test_a_gap():
    gap = {"from": "ab.1", "to": "cd.2", "complete": False, "lost": "ab.1 is not kept"}
    assert list(lines(gap, NOW)) == ["lost: ab.1 is not kept; changes before cd.2 are not known"]


# the command


def test_in_a_pipe_the_json_is_unchanged(server: str) -> None:
    since = beat(server, "piped")
    done = invoke("changes", "--url", server, "--since", since, "--key", "cli/piped")
    assert (done.stderr, done.exit_code) == ("", 0)
    query = {"since": since, "key": "cli/piped"}
    assert (
        json.loads(done.stdout)["changes"]
        == (httpx.get(f"{server}/system/changes", params=query, timeout=SECONDS).json()["changes"])
    )
    assert [change["key"] for change in json.loads(done.stdout)["changes"]] == ["cli/piped"]


def test_a_terminal_shows_text(server: str) -> None:
    beat(server, "shown", tasks=[{"id": "t1", "step": "reads"}])
    since = beat(server, "shown", tasks=[{"id": "t1", "step": "\x1b[31mwrites"}, {"id": "t2"}])
    options = ("--since", since, "--section", "agents", "--measures", "none", "--limit", "9")
    shown = on_terminal("changes", "--url", server, "--kinds", "all", *options)
    assert re.search("^agents cli/shown  changed [0-9]+s ago", shown)
    assert "  activity/active_task_ids/t1/step  reads → [31mwrites" in shown
    assert '  activity/active_task_ids/t2  added {"id": "t2", "status": "running"' in shown


def test_kinds_leave_out_the_counts_of_tasks(server: str) -> None:
    beat(server, "kinds", tasks=[{"id": "t2"}, {"id": "t3"}], version="2")
    since = beat(server, "kinds", tasks=[], version="3")
    options = ("--url", server, "--since", since, "--key", "cli/kinds")
    shown = on_terminal("changes", *options)
    assert "  instances/i1/version  2 → 3\r\n" in shown
    assert "  tasks  2 ended, 2 of them without a known outcome\r\n" in shown
    assert "  tasks  " not in on_terminal("changes", *options, "--kinds", "status,problems")
    done = invoke("changes", *options, "--kinds", "task")
    assert done.exit_code == 1
    assert "400 no kind 'task'; kinds are status, problems, membership, tasks" in done.stderr


def test_a_wrong_section_is_an_error_that_names_the_others(server: str) -> None:
    for command in ("changes", "state"):
        done = invoke(command, "--url", server, "--section", "agent")
        assert done.exit_code == 1
        assert "no section 'agent'; sections are sources, findings, agents" in done.stderr


def test_with_until_changes_begin_at_the_oldest_place(server: str) -> None:
    """The default of `--since`, 5 minutes ago, may be after it."""
    until = beat(server, "later")
    beat(server, "later", version="2")
    told = json.loads(invoke("changes", "--url", server, "--until", until).stdout)
    assert told["to"] == until


def test_a_key_that_is_not_text_is_unknown(server: str) -> None:
    done = invoke("changes", "--url", server, "--since", beat(server, "x"), "--key", "\udcff")
    assert "404 no '\ufffd' in any section" in refused(done, 1)


@pytest.mark.parametrize("options", [(), ("--follow",), ("--section", "agents")])
def test_an_unknown_key_is_an_error_that_names_a_similar_one(
    server: str, options: tuple[str, ...]
) -> None:
    beat(server, "scribe")
    done = invoke("changes", "--url", server, "--key", "scribe", *options)
    assert "did you mean cli/scribe?" in refused(done, 1)


def test_changes_of_a_young_server_begin_at_its_start() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(port=port):
        beat(url, "one")
        done = invoke("changes", "--url", url, "--section", "agents")
        shown = on_terminal("changes", "--url", url, "--section", "agents")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["complete"]) == (0, False)
    assert [change["key"] for change in told["changes"]] == ["cli/one"]
    assert "incomplete: nothing is known before 20" in shown


def test_a_place_that_is_not_kept_is_an_error(server: str) -> None:
    line = refused(invoke("changes", "--url", server, "--since", "ab.1"), 1)
    assert "the oldest place kept is" in line


@contextmanager
def following(*arguments: str, **pipes: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run `changes --follow`; end it with Ctrl-C."""
    command = [sys.executable, "-m", "telemetron", "changes", "--follow", *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(), **pipes
    ) as follower:
        try:
            yield follower
            follower.send_signal(signal.SIGINT)
            _, said = follower.communicate(timeout=SECONDS)
            assert [line for line in said.splitlines() if not line.endswith("reconnecting")] == []
            assert follower.returncode == 130
        finally:
            follower.kill()


def test_follow_continues_after_a_restart(tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text(f"history: {{url: 'sqlite:///{tmp_path}/history.db'}}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        with serving("--config", str(config), port=port):
            since = beat(url, "one")
            options = ("--section", "agents", "--url", url, "--since", since)
            follower = stack.enter_context(following(*options, stdout=subprocess.PIPE))
            first = json.loads(follower.stdout.readline())
        assert "reconnecting" in follower.stderr.readline()
        with serving("--config", str(config), port=port):
            # The first event reports the restart, the second the change after it.
            second = json.loads(follower.stdout.readline())
            beat(url, "two")
            third = json.loads(follower.stdout.readline())
    assert [change["key"] for change in first["changes"]] == ["cli/one"]
    assert [change["key"] for change in third["changes"]] == ["cli/two"]
    assert second["from"].partition(".")[0] == since.partition(".")[0]
    assert not second["complete"]


def test_follow_reports_the_gap_of_a_restart_without_a_file() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        with serving(port=port):
            options = ("--section", "agents", "--url", url, "--since", beat(url, "one"))
            follower = stack.enter_context(following(*options, stdout=subprocess.PIPE))
            first = json.loads(follower.stdout.readline())
        with serving(port=port):
            gap = json.loads(follower.stdout.readline())
            beat(url, "two")
            second = json.loads(follower.stdout.readline())
    assert gap["from"] == first["to"]
    assert "is not in the history" in gap["lost"]
    assert second["from"] == gap["to"]
    assert [change["key"] for change in second["changes"]] == ["cli/two"]


def test_follow_on_a_terminal_shows_text() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ours, theirs = pty.openpty()
    with ExitStack() as stack:
        with serving(port=port):
            since = beat(url, "shown", tasks=[{"id": "t1", "step": "\x1b[31mreads"}])
            options = ("--section", "agents", "--kinds", "all", "--url", url, "--since", since)
            stack.enter_context(following(*options, stdout=theirs))
            os.close(theirs)
            terminal = stack.enter_context(os.fdopen(ours, encoding="utf-8"))
            time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*Z\n"
            assert re.fullmatch(f"agents cli/shown  added at {time}", terminal.readline())
            beat(url, "shown", tasks=[{"id": "t1", "step": "writes"}])
            assert re.fullmatch(f"agents cli/shown  changed at {time}", terminal.readline())
            assert "  activity/active_task_ids/t1/step  [31mreads → writes" in terminal.readline()
        with serving(port=port):
            line = terminal.readline()
    assert re.fullmatch(
        r"lost: epoch .* is not in the history; changes before .* are not known\n", line
    )


def test_follow_fails_if_there_is_no_server() -> None:
    line = refused(invoke("changes", "--follow", "--url", "http://127.0.0.1:1"), 1)
    assert "cannot be reached" in line
