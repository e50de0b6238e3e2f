"""The command line: what it prints, where, and its exit codes.

Commands run in this process where nothing depends on their having one of their own.
"""

import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from click.testing import CliRunner

import telemetron
from telemetron.cli.commands import main
from telemetron.web.pages.schema import schema
from tests.conftest import TLS

FOREIGN = ("TELEMETRON_", "SERVER_", "LOG_LEVEL", "HTTP_PROXY", "http_proxy")
COMMANDS = ["changes", "collectors", "demo", "schema", "serve", "state", "validate"]
SECONDS = 30

OURS = [point.name for point in entry_points(group="telemetron.collectors")]

COLLECTOR = """
from typing import Annotated
from msgspec import Meta
from telemetron.collector import Collector, Config

class C(Config, frozen=True):
    topics: Annotated[list[str], Meta(description="What is read.")]
    seconds: Annotated[float, Meta(gt=0, description="How often.")] = 5.0

async def run(config, output): ...

good = Collector(name="good", description="Observes queues.", config=C, sections=("queues",),
                 max_age_seconds=lambda config: 10 / (config.seconds - 1), run=run)
"""


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    stdout: str
    stderr: str
    exit_code: int


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"COLUMNS": "200", "TERM": "xterm"} | more


def telemetron_(*arguments: str, **env: str) -> Done:
    """Run the command in this process."""
    wanted = dict.fromkeys(os.environ) | environment(**env)
    runner = CliRunner(env=wanted)
    done = runner.invoke(main, arguments, prog_name="telemetron", catch_exceptions=False)
    return Done(done.stdout, done.stderr, done.exit_code)


def process_(*arguments: str, **env: str) -> Done:
    """Run the command in a process of its own, its output in pipes."""
    done = subprocess.run(
        [sys.executable, "-m", "telemetron", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(**env),
    )
    return Done(done.stdout, done.stderr, done.returncode)


def on_terminal(*arguments: str, **env: str) -> str:
    """Run it with its output on a terminal; gives what it shows."""
    ours, theirs = pty.openpty()
    shown = []
    command = [sys.executable, "-m", "telemetron", *arguments]
    with subprocess.Popen(command, stdout=theirs, env=environment(**env)) as process:
        os.close(theirs)
        try:
            while data := os.read(ours, 65536):
                shown.append(data)
        except OSError:  # EIO: the other end is closed
            pass
        finally:
            os.close(ours)
        assert process.wait(SECONDS) == 0
    return b"".join(shown).decode()


@contextmanager
def serving(*arguments: str, port: int = 0, **env: str) -> Iterator[str]:
    """A server, on a free port unless told; gives its URL, and stops it."""
    command = [sys.executable, "-m", "telemetron", "serve", "--port", str(port), *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(**env)
    ) as process:
        try:
            records = map(json.loads, process.stderr)
            said = (record["message"] for record in records)
            said = (message for message in said if not message.startswith("source "))
            yield next(said).removeprefix("listening on ")
            process.send_signal(signal.SIGTERM)
            assert list(said) == []
            process.wait(SECONDS)
            assert process.returncode == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A folder with a distribution that brings collectors; the value of PYTHONPATH."""
    info = tmp_path / "site" / "fake-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[telemetron.collectors]\ngood = fake:good\nbroken = not_there:x\n"
    )
    (info.parent / "fake.py").write_text(COLLECTOR)
    return str(info.parent)


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that is no Telemetron."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def refused(done: Done, code: int) -> str:
    """The one line that a command that failed says."""
    assert (done.stdout, done.exit_code) == ("", code), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_version_and_help() -> None:
    done = telemetron_("--version")
    assert (done.stdout, done.exit_code) == (f"telemetron {telemetron.__version__}\n", 0)
    done = telemetron_("-h")
    assert [
        line.split()[0] for line in done.stdout.split("Commands:\n")[1].splitlines()
    ] == COMMANDS


@pytest.mark.parametrize("arguments", [["serf"], ["serve", "--port", "x"], ["demo", "--hang", "x"]])
def test_wrong_usage(arguments: list[str]) -> None:
    done = telemetron_(*arguments)
    assert (done.stdout, done.exit_code) == ("", 2)
    assert "Traceback" not in done.stderr


def test_demo_runs_as_long_as_it_is_told() -> None:
    done = process_("demo", "--seconds", "0.1", "--hang", "planner")
    assert "Telemetron watches four agent processes" in done.stdout
    assert done.exit_code == 0


# validate


def test_validate_says_what_is_on_and_off(tmp_path: Path, installed: str) -> None:
    done = telemetron_("validate")
    assert done.stdout == "environment: ok\non: heartbeats\noff: kafka, kubernetes, litellm\n"
    assert (done.stderr, done.exit_code) == ("", 0)
    file = tmp_path / "t.yaml"
    file.write_text("sources: {heartbeats: off, orders: {collector: good, topics: [a]}}")
    done = process_("validate", "--config", str(file), PYTHONPATH=installed)
    off = "broken, heartbeats, kafka, kubernetes, litellm"
    assert done.stdout == f"{file}: ok\non: orders (good)\noff: {off}\n"
    assert done.exit_code == 0


def test_validate_says_all_that_is_wrong(tmp_path: Path, installed: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("""server: {prot: 1}
sources:
  good: {topics: ["${A}"], secs: 1}
  other: {collector: god, topics: ["${A}"]}
  broken:
  crashing: {collector: good, topics: [], seconds: 1.0}
""")
    done = process_("validate", "--config", str(file), PYTHONPATH=installed)
    assert (done.stdout, done.exit_code) == ("", 78)
    assert [line.removeprefix(f"{file}:") for line in done.stderr.splitlines()] == [
        '1: server.prot: unknown key; did you mean "port"?'
        " (known: auth, host, port, probe_port, root_path, tls)",
        "3: sources.good.topics[0]: the environment variable A is not set",
        '3: sources.good.secs: unknown key; did you mean "seconds"? (known: seconds, topics)',
        "4: sources.other.topics[0]: the environment variable A is not set",
        '4: sources.other.collector: unknown collector; did you mean "good"?'
        f" (known: {', '.join(sorted(['broken', 'good', *OURS]))})",
        "5: sources.broken.collector: broken cannot be used:"
        " ModuleNotFoundError: No module named 'not_there'",
        "6: sources.crashing.collector: good cannot be used:"
        " ZeroDivisionError: float division by zero",
    ]


# collectors and schema


def test_collectors_that_are_installed(installed: str) -> None:
    done = process_("collectors", PYTHONPATH=installed)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert list(found) == sorted(["broken", "good", *OURS])
    assert found["broken"] == {
        "name": "broken",
        "distribution": "fake 1.2",
        "problem": "ModuleNotFoundError: No module named 'not_there'",
    }
    assert found["good"] == {
        "name": "good",
        "distribution": "fake 1.2",
        "problem": None,
        "description": "Observes queues.",
        "sections": ["queues"],
        "paths": [],
        "config": [
            {
                "name": "topics",
                "type": "list of str",
                "required": True,
                "default": None,
                "description": "What is read.",
            },
            {
                "name": "seconds",
                "type": "float",
                "required": False,
                "default": 5.0,
                "description": "How often.",
            },
        ],
    }
    assert found["heartbeats"]["paths"] == ["/agents/"]


def test_collectors_on_a_terminal(installed: str) -> None:
    lines = on_terminal("collectors", PYTHONPATH=installed).splitlines()
    assert lines[:8] == [
        "broken  (fake 1.2)",
        "  cannot be imported: ModuleNotFoundError: No module named 'not_there'",
        "",
        "good  (fake 1.2)",
        "  Observes queues.",
        "  writes queues",
        "  topics: list of str, required. What is read.",
        "  seconds: float, default 5.0. How often.",
    ]


def test_schema_is_the_one_that_is_served() -> None:
    assert json.loads(telemetron_("schema").stdout) == schema()


# state


def test_state_in_a_pipe_is_the_json_as_it_came(server: str) -> None:
    served = httpx.get(f"{server}/system/state").text
    done = telemetron_("state", "--url", server + "/")
    assert (done.stderr, done.exit_code) == ("", 0)
    assert done.stdout == served
    assert (
        telemetron_("state", TELEMETRON_URL=server, HTTP_PROXY="http://127.0.0.1:1").stdout
        == served
    )


def test_state_shows_the_sections_that_are_asked_for(server: str) -> None:
    done = telemetron_("state", "--url", server, "--section", "agents", "--section", "queues")
    assert {"agents", "queues"} <= {*json.loads(done.stdout)}
    assert not {"workload", "litellm"} & {*json.loads(done.stdout)}
    done = telemetron_("state", "--url", server, "--section", "agent")
    assert refused(done, 1).startswith(f"{server}: 400 ")
    assert "agents" in done.stderr


def test_state_on_a_terminal_is_readable(server: str) -> None:
    beat = {"instance": "i1", "tasks": [{"id": "t1", "status": "running", "step": "\x1b[31mreads"}]}
    httpx.post(f"{server}/agents/seen/heartbeat", json=beat).raise_for_status()
    shown = on_terminal("state", "--url", server)
    assert "telemetron  revision " in shown
    assert "SOURCES" in shown
    assert "heartbeats" in shown
    (agent,) = [line for line in shown.splitlines() if line.startswith("seen")]
    assert "active" in agent
    (task,) = [line for line in shown.splitlines() if line.startswith("t1")]
    assert "reads" in task
    assert "\x1b[31mreads" not in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_state_on_a_terminal_that_is_not_utf8(server: str, encoding: str) -> None:
    beat(server, "odd", tasks=[{"id": "t1", "step": "reads 日本"}])
    shown = on_terminal("state", "--url", server, PYTHONIOENCODING=encoding)
    assert r"reads \u65e5\u672c" in shown


def test_state_ends_quietly_when_nobody_reads_on(server: str) -> None:
    command = f'"{sys.executable}" -m telemetron state --url {server} | true'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=SECONDS, env=environment()
    )
    assert done.stderr == ""


def test_state_of_the_past(server: str) -> None:
    before = json.loads(telemetron_("state", "--url", server).stdout)
    place = f"{before['epoch']}.{before['revision']}"
    beat(server, "later")
    past = json.loads(telemetron_("state", "--url", server, "--at", place).stdout)
    assert past["revision"] == before["revision"]
    assert [agent["key"] for agent in past["agents"]] == [
        agent["key"] for agent in before["agents"]
    ]
    assert "410" in refused(telemetron_("state", "--url", server, "--at", "ab.1"), 1)


def test_state_of_the_past_on_a_terminal(server: str) -> None:
    beat(server, "past", tasks=[{"id": "t-past"}])
    place = beat(server, "past", tasks=[])
    shown = on_terminal("state", "--url", server, "--at", place)
    assert re.search(
        f"telemetron  revision {place.partition('.')[2]}, changed 0s ago, up .*", shown
    )
    at = json.loads(telemetron_("state", "--url", server, "--at", place).stdout)["changed_at"]
    assert f", as it was at {at[:19]}Z" in shown
    assert any(line.startswith("t-past") for line in shown.splitlines())
    assert "t-past" not in on_terminal("state", "--url", server)


@pytest.mark.parametrize("unit", ["h", "d"])
def test_ages_of_the_past_count_to_the_time_asked_for(unit: str) -> None:
    """The state then had changed long before."""
    state = {"id": "x", "schema_version": 1, "epoch": "ab", "revision": 1, "sources": []}
    state |= dict.fromkeys(("started_at", "changed_at"), "2020-01-01T00:00:00Z")
    with answering(200, json.dumps(state).encode(), **{"Content-Type": "application/json"}) as url:
        shown = on_terminal("state", "--url", url, "--at", f"2{unit}")
    assert "as it was at 20" in shown
    assert "as it was at 2020" not in shown


@pytest.mark.parametrize(
    "options",
    [
        ["changes", "--key", ""],
        ["changes", "--since", ""],
        ["state", "--at", ""],
        ["state", "--section", ""],
    ],
)
def test_an_empty_value_is_an_error_as_everywhere(server: str, options: list[str]) -> None:
    """As of a shell variable that is not set: all changes, or the present, would mislead."""
    assert f"{server}: 40" in refused(telemetron_(*options, "--url", server), 1)


# changes


def beat(server: str, name: str, **fields: Any) -> str:
    """A heartbeat; gives the place before it."""
    etag = httpx.get(f"{server}/system/state").headers["etag"]
    body = {"instance": "i1", "namespace": "cli", **fields}
    httpx.post(f"{server}/agents/{name}/heartbeat", json=body).raise_for_status()
    return etag.removeprefix('W/"').removesuffix('"')


def test_changes_in_a_pipe_are_the_json_as_it_came(server: str) -> None:
    since = beat(server, "piped")
    done = telemetron_("changes", "--url", server, "--since", since, "--key", "cli/piped")
    assert (done.stderr, done.exit_code) == ("", 0)
    query = {"since": since, "key": "cli/piped"}
    assert (
        json.loads(done.stdout)["changes"]
        == (httpx.get(f"{server}/system/changes", params=query).json()["changes"])
    )
    assert [change["key"] for change in json.loads(done.stdout)["changes"]] == ["cli/piped"]


def test_changes_on_a_terminal_are_readable(server: str) -> None:
    beat(server, "shown", tasks=[{"id": "t1", "step": "reads"}])
    since = beat(server, "shown", tasks=[{"id": "t1", "step": "\x1b[31mwrites"}, {"id": "t2"}])
    options = ("--since", since, "--section", "agents", "--measures", "none", "--limit", "9")
    shown = on_terminal("changes", "--url", server, *options)
    assert re.search("^agents cli/shown  changed [0-9]+s ago", shown)
    assert "  activity/active_task_ids/t1/step  reads → [31mwrites" in shown
    assert '  activity/active_task_ids/t2  added {"id": "t2", "status": "running"' in shown


def test_changes_up_to_a_place_begin_before_it(server: str) -> None:
    """Not 5 minutes ago, which may be after it."""
    until = beat(server, "later")
    beat(server, "later", version="2")
    told = json.loads(telemetron_("changes", "--url", server, "--until", until).stdout)
    assert told["to"] == until


def test_a_key_that_is_no_text_names_nothing(server: str) -> None:
    done = telemetron_("changes", "--url", server, "--since", beat(server, "x"), "--key", "\udcff")
    assert "404 no '\ufffd' in any section" in refused(done, 1)


@pytest.mark.parametrize("options", [(), ("--follow",), ("--section", "agents")])
def test_a_wrong_key_is_an_error_that_names_the_nearest(
    server: str, options: tuple[str, ...]
) -> None:
    beat(server, "scribe")
    done = telemetron_("changes", "--url", server, "--key", "scribe", *options)
    assert "did you mean cli/scribe?" in refused(done, 1)


def test_changes_of_a_young_server_are_those_since_its_start() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(port=port):
        beat(url, "one")
        done = telemetron_("changes", "--url", url, "--section", "agents")
        shown = on_terminal("changes", "--url", url, "--section", "agents")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["complete"]) == (0, False)
    assert [change["key"] for change in told["changes"]] == ["cli/one"]
    assert "not complete: nothing is known before 20" in shown


def test_changes_that_are_not_kept_any_more(server: str) -> None:
    line = refused(telemetron_("changes", "--url", server, "--since", "ab.1"), 1)
    assert "the oldest place that can be asked for is" in line


@contextmanager
def following(*arguments: str, **pipes: Any) -> Iterator["subprocess.Popen[str]"]:
    """`changes --follow`; Ctrl-C ends it."""
    command = [sys.executable, "-m", "telemetron", "changes", "--follow", *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(), **pipes
    ) as follower:
        try:
            yield follower
            follower.send_signal(signal.SIGINT)
            _, said = follower.communicate(timeout=SECONDS)
            assert [line for line in said.splitlines() if not line.endswith("asking again")] == []
            assert follower.returncode == 130
        finally:
            follower.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_changes_are_followed_over_a_restart(tmp_path: Path) -> None:
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
        assert "asking again" in follower.stderr.readline()
        with serving("--config", str(config), port=port):
            # First that there was a start in between, then what happens after it.
            second = json.loads(follower.stdout.readline())
            beat(url, "two")
            third = json.loads(follower.stdout.readline())
    assert [change["key"] for change in first["changes"]] == ["cli/one"]
    assert [change["key"] for change in third["changes"]] == ["cli/two"]
    assert second["from"].partition(".")[0] == since.partition(".")[0]
    assert not second["complete"]


def test_changes_are_followed_over_a_restart_that_knows_nothing_of_before() -> None:
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


def test_changes_are_followed_on_a_terminal() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ours, theirs = pty.openpty()
    with ExitStack() as stack:
        with serving(port=port):
            since = beat(url, "shown", tasks=[{"id": "t1", "step": "\x1b[31mreads"}])
            options = ("--section", "agents", "--url", url, "--since", since)
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
    assert re.fullmatch(r"lost: epoch .* is not in the history; what happened until .*\n", line)


def test_changes_are_not_followed_where_there_is_no_server() -> None:
    line = refused(telemetron_("changes", "--follow", "--url", "http://127.0.0.1:1"), 1)
    assert "cannot be reached" in line


@pytest.mark.parametrize(
    "command",
    [["schema"], ["collectors"], ["validate"], ["state"], ["changes", "--since", "0s"]],
    ids=lambda command: command[0],
)
def test_output_that_cannot_be_written_is_one_line(server: str, command: list[str]) -> None:
    run = [sys.executable, "-m", "telemetron", *command]
    for into, said in ((">/dev/full", "No space left on device"), (">&-", "standard output is cl")):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {into}', "sh", *run],
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            env=environment(TELEMETRON_URL=server),
        )
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"cannot write the output: {said}")
        assert done.returncode == 1


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["state", "--help"]])
def test_help_that_cannot_be_written_is_one_line(command: list[str]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, "-m", "telemetron", *command],
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        env=environment(),
    )
    assert done.stderr == "cannot write the output: No space left on device\n"
    assert done.returncode == 1


def test_state_of_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        line = refused(telemetron_("state", "--url", url), 1)
    assert line.startswith(f"{url}: cannot be reached: ")
    assert line.endswith("Connection refused")


@pytest.mark.parametrize(
    "url",
    [
        *("http://[", "127.0.0.1:8080", "file:///etc/passwd", "http://"),
        "http://a:hunter2@127.0.0.1",
        *("http://127.0.0.1:1/#x", "http://127.0.0.1:1?a=b", "http://127.0.0.1:1/#"),
    ],
)
def test_state_of_what_is_no_url(url: str) -> None:
    line = refused(telemetron_("state", "--url", url), 1)
    assert line.startswith("--url: ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b'{"detail": "stops \\u001b[31mnow"}', r"503 stops \x1b[31mnow"),
        (404, b"<html>", "404 Not Found"),
        (500, b'["detail"]', "500 Internal Server Error"),
        (302, b"", "302 Found"),
    ],
)
def test_state_of_a_server_that_refuses(status: int, body: bytes, said: str) -> None:
    with answering(status, body) as url:
        assert refused(telemetron_("state", "--url", url), 1) == f"{url}: {said}"


@pytest.mark.parametrize("command", [["state"], ["changes"], ["changes", "--follow"]])
def test_a_page_of_another_server_is_an_error(command: list[str]) -> None:
    with answering(200, b"<html>", **{"Content-Type": "text/html; charset=utf-8"}) as url:
        line = refused(telemetron_(*command, "--url", url), 1)
    assert line == f"{url}: answered text/html; is this Telemetron's URL?"


def test_state_of_something_else_on_a_terminal() -> None:
    with answering(200, b'{"agents": []}', **{"Content-Type": "application/json"}) as url:
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "telemetron", "state", "--url", url],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            env=environment(),
        )
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 1
    assert "unexpected response; is the server a newer version" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_state_with_a_token(tmp_path: Path) -> None:
    config, token = tmp_path / "t.yaml", tmp_path / "token"
    config.write_text(f"server: {{auth: {{read_file: {token}, write: w}}}}")
    token.write_text("hunter2\n")
    with serving("--config", str(config)) as url:
        line = refused(telemetron_("state", "--url", url), 1)
        assert "--token-file" in line
        for options in (
            {"TELEMETRON_TOKEN": "hunter2"},
            {"TELEMETRON_TOKEN_FILE": str(token)},
            {"TELEMETRON_TOKEN": "wrong", "TELEMETRON_TOKEN_FILE": str(token)},
        ):
            done = telemetron_("state", "--url", url, **options)
            assert json.loads(done.stdout)["id"] == "telemetron", done.stderr
        done = telemetron_("state", "--url", url, "--token-file", str(token))
        assert json.loads(done.stdout)["id"] == "telemetron"
    line = refused(telemetron_("state", "--token-file", str(tmp_path / "none")), 1)
    assert line.endswith("none: the token cannot be read: FileNotFoundError")
    line = refused(telemetron_("state", TELEMETRON_TOKEN="hunter\n2"), 1)
    assert line == "the token is not one line of ASCII text"


# serve


def test_serve_refuses_a_configuration_that_is_not_valid(tmp_path: Path) -> None:
    line = logged(process_("serve", "--host", "0.0.0.0"), 78)
    assert line.startswith("command line: --host: 0.0.0.0 can be reached from other machines")
    line = logged(process_("serve", SERVER_PORT="x"), 78)
    assert line == "environment: SERVER_PORT: expected int, got str"
    file = tmp_path / "none.yaml"
    line = logged(process_("serve", "--config", str(file)), 78)
    assert line == f"{file}: cannot read the file: No such file or directory"


def test_serve_says_in_plain_words_on_a_terminal_why_it_does_not_start() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "telemetron", "serve", "--root-path", "/a/"]
    with subprocess.Popen(command, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8") as terminal:
            assert terminal.readline().startswith("command line: --root-path: expected: Path")
        assert process.wait(SECONDS) == 78


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a:\n\tb: 1\n", "not valid YAML"),
        ("- a\n", "expected a mapping"),
        ("a: [\n", "not valid YAML"),
        ("\x00", "not valid YAML"),
        (None, "cannot read the file"),
    ],
)
def test_validate_of_what_is_no_configuration(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "t.yaml"
    if content is not None:
        file.write_text(content)
    assert said in refused(telemetron_("validate", "--config", str(file)), 78)


def test_serve_starts_with_a_source_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text("sources: {heartbeats: {stall: 1}, x: {}}")
    with serving("--config", str(config)) as url:
        state = httpx.get(f"{url}/system/state").json()
        while any(row["status"] == "starting" for row in state["sources"]):
            place = f"{state['epoch']}.{state['revision']}"
            state = httpx.get(f"{url}/system/state?since={place}&wait=20s", timeout=SECONDS).json()
    problems = {row["key"]: [p["reason"] for p in row["problems"]] for row in state["sources"]}
    assert problems["heartbeats"] == ["InvalidConfig"]
    assert problems["x"] == ["NotInstalled"]


def test_serve_logs_each_change_of_a_sources_status(tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text("sources: {heartbeats: {stall: 1}, x: {}}")
    command = [sys.executable, "-m", "telemetron", "serve", "--port", "0", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        lines = [json.loads(process.stderr.readline()) for _ in range(3)]
        process.terminate()
        process.communicate(timeout=SECONDS)
    said = {line["message"].partition(" in ")[0]: line["level"] for line in lines}
    assert {
        "source x: failing (was starting): NotInstalled: no installed package has a collector 'x'"
    } <= said.keys()
    (wrong,) = [line for line in said if line.startswith("source heartbeats: failing")]
    assert "InvalidConfig" in wrong
    assert said[wrong] == "warning"


def test_serve_on_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = logged(process_("serve", "--port", port), 1)
    assert line == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


def logged(done: Done, code: int) -> str:
    """The one record that a server that does not start logs."""
    record = json.loads(refused(done, code))
    assert (record["level"], record["logger"]) == ("error", "telemetron.cli.commands")
    return str(record["message"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_little_on_a_terminal(number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "telemetron", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8") as terminal:
            line = terminal.readline()
            process.send_signal(number)
            assert process.wait(SECONDS) == 0
            with pytest.raises(OSError, match="Input/output error"):  # nothing more was said
                terminal.readline()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    telemetron: listening on http://127\.\d.*\n", line)


def test_serve_over_tls_below_a_path(tmp_path: Path) -> None:
    certificate = str(TLS / "cert.pem")
    config = tmp_path / "t.yaml"
    config.write_text(f"""server:
  root_path: /t
  tls: {{certfile: {certificate}, keyfile: {TLS}/key.pem, keyfile_password: hunter2}}""")
    with serving("--config", str(config)) as url:
        assert url.startswith("https://")
        done = telemetron_("state", "--url", url, SSL_CERT_FILE=certificate)
        assert json.loads(done.stdout)["id"] == "telemetron", done.stderr
        welcome = httpx.get(url, verify=ssl.create_default_context(cafile=certificate))
        assert f"{url}/t/system/state" in welcome.text
        assert "CERTIFICATE_VERIFY_FAILED" in refused(telemetron_("state", "--url", url), 1)
