"""The commands: usage, `serve`, `validate` and the schema."""

import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import telemetron
from telemetron.web.pages.schema import schema
from tests.conftest import TLS
from tests.telemetron.cli.program import (
    SECONDS,
    Done,
    beat,
    environment,
    invoke,
    refused,
    serving,
    spawn,
)

COMMANDS = [
    "brief",
    "changes",
    "collectors",
    "demo",
    "findings",
    "mcp",
    "schema",
    "serve",
    "state",
    "task",
    "validate",
    "webhooks",
]

HEAVY = {
    *("aiokafka", "anyio", "html.entities", "httpx", "kubernetes_asyncio", "mcp"),
    *("prometheus_client", "pydantic", "rich", "standardwebhooks"),
    *("starlette", "telemetron_agent"),
    *(f"telemetron_collectors.{name}" for name in ("kafka", "kubernetes", "litellm")),
    *("telemetron.demo", "telemetron.mcp"),
}


def test_version_and_help() -> None:
    done = invoke("--version")
    assert (done.stdout, done.exit_code) == (f"telemetron {telemetron.__version__}\n", 0)
    done = invoke("-h")
    assert [
        line.split()[0] for line in done.stdout.split("Commands:\n")[1].splitlines()
    ] == COMMANDS


@pytest.mark.parametrize("arguments", [["serf"], ["serve", "--port", "x"], ["demo", "--hang", "x"]])
def test_wrong_usage(arguments: list[str]) -> None:
    done = invoke(*arguments)
    assert (done.stdout, done.exit_code) == ("", 2)
    assert "Traceback" not in done.stderr


def test_demo_stops_after_the_given_seconds() -> None:
    done = spawn("demo", "--seconds", "0.1", "--hang", "planner")
    assert "Telemetron watches four agent processes" in done.stdout
    assert done.exit_code == 0


def test_validate_lists_the_sources(tmp_path: Path, installed: str) -> None:
    done = invoke("validate")
    assert (
        done.stdout
        == "environment: ok\non: heartbeats\noff: kafka, kubernetes, litellm, rabbitmq\n"
    )
    assert (done.stderr, done.exit_code) == ("", 0)
    file = tmp_path / "t.yaml"
    file.write_text("sources: {heartbeats: off, orders: {collector: good, topics: [a]}}")
    done = spawn("validate", "--config", str(file), PYTHONPATH=installed)
    assert done.stdout == (
        f"{file}: ok\non: orders (good)\n"
        "off: broken, heartbeats, kafka, kubernetes, litellm, rabbitmq\n"
    )
    assert done.exit_code == 0


def test_validate_refuses_a_rule_that_nobody_knows(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("findings: {rules: {ModelDegradet: 'off'}}")
    line = refused(invoke("validate", "--config", str(file)), 78)
    assert 'findings.rules.ModelDegradet: unknown rule; did you mean "ModelDegraded"?' in line


def test_schema_prints_the_served_schema() -> None:
    assert json.loads(invoke("schema").stdout) == schema()


@pytest.mark.parametrize(
    "options",
    [
        ["changes", "--key", ""],
        ["changes", "--since", ""],
        ["state", "--at", ""],
        ["state", "--section", ""],
    ],
)
def test_an_empty_option_is_an_error(server: str, options: list[str]) -> None:
    """As of a shell variable that is not set: all changes, or the present, would mislead."""
    assert f"{server}: 40" in refused(invoke(*options, "--url", server), 1)


def test_serve_refuses_an_invalid_configuration(tmp_path: Path) -> None:
    line = start_error(spawn("serve", "--host", "0.0.0.0"), 78)
    assert line.startswith("command line: --host: 0.0.0.0 can be reached from other machines")
    line = start_error(spawn("serve", SERVER_PORT="x"), 78)
    assert line == "environment: SERVER_PORT: expected int, got str"
    file = tmp_path / "none.yaml"
    line = start_error(spawn("serve", "--config", str(file)), 78)
    assert line == f"{file}: cannot read the file: No such file or directory"


def test_serve_explains_on_a_terminal_why_it_does_not_start() -> None:
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
def test_validate_refuses_a_file_that_is_not_a_configuration(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "t.yaml"
    if content is not None:
        file.write_text(content)
    assert said in refused(invoke("validate", "--config", str(file)), 78)


def test_serve_starts_despite_a_wrong_source(tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text("sources: {heartbeats: {stall: 1}, x: {}}")
    with serving("--config", str(config)) as url:
        state = httpx.get(f"{url}/system/state", timeout=SECONDS).json()
        while any(row["status"] == "starting" for row in state["sources"]):
            place = f"{state['epoch']}.{state['revision']}"
            state = httpx.get(f"{url}/system/state?since={place}&wait=20s", timeout=SECONDS).json()
    problems = {row["key"]: [p["reason"] for p in row["problems"]] for row in state["sources"]}
    assert problems["heartbeats"] == ["InvalidConfig"]
    assert problems["x"] == ["NotInstalled"]


def test_serve_logs_each_status_of_a_source(tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text("sources: {heartbeats: {stall: 1}, x: {}}")
    command = [sys.executable, "-m", "telemetron", "serve", "--port", "0", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        lines = [json.loads(process.stderr.readline()) for _ in range(3)]
        process.terminate()
        process.communicate(timeout=SECONDS)
    said = {line["message"].partition(" in ")[0]: line["level"] for line in lines}
    fields = {line["source"]: line["reason"] for line in lines if "source" in line}
    assert fields == {"heartbeats": "InvalidConfig", "x": "NotInstalled"}
    assert {
        "source x: failing (was starting): NotInstalled: no installed package has a collector 'x'"
    } <= said.keys()
    (wrong,) = [line for line in said if line.startswith("source heartbeats: failing")]
    assert "InvalidConfig" in wrong
    assert said[wrong] == "warning"


def test_serve_logs_its_start_and_its_stop(tmp_path: Path) -> None:
    config = tmp_path / "t.yaml"
    config.write_text("server: {auth: {read: a-token}}")
    command = [sys.executable, "-m", "telemetron", "serve", "--port", "0", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        start = json.loads(process.stderr.readline())
        process.terminate()
        stop = json.loads(process.stderr.readline())
        _, rest = process.communicate(timeout=SECONDS)
    facts = {name: start[name] for name in ("version", "file", "sources", "tokens")}
    assert facts == {
        "version": telemetron.__version__,
        "file": str(config),
        "sources": "heartbeats",
        "tokens": "read",
    }
    assert start["message"] == f"listening on {start['address']}"
    assert (stop["message"], stop["signal"]) == ("stopping", "SIGTERM")
    assert b"a-token" not in rest


def test_serve_imports_nothing_that_it_does_not_use() -> None:
    """What these modules take, in time to start and in memory, is more than all the rest."""
    command = [sys.executable, "-m", "telemetron", "serve", "--port", "0"]
    env = environment(PYTHONPROFILEIMPORTTIME="1")
    env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            lines = [process.stderr.readline()]
            while "listening on " not in lines[-1]:
                assert lines[-1], "it ended"
                lines.append(process.stderr.readline())
            url = json.loads(lines[-1])["message"].removeprefix("listening on ")
            beat(url, "a")
            process.terminate()
            lines += process.communicate(timeout=SECONDS)[1].splitlines()
        finally:
            process.kill()
    imported = {line.rpartition("|")[2].strip() for line in lines if "|" in line}
    assert "uvicorn" in imported
    assert HEAVY & imported == set()


def test_serve_fails_on_a_used_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = start_error(spawn("serve", "--port", port), 1)
    assert line == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_a_bug_at_the_start_is_logged_with_its_traceback() -> None:
    code = (
        "import telemetron.web.app as app; app.App = None;"
        " from telemetron.cli import main; main(['serve', '--port', '0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    record = json.loads(done.stderr)
    assert done.returncode == 1
    assert record["exception"]["type"] == "TypeError"


def start_error(done: Done, code: int) -> str:
    """Return the message of the one record that a server logs if it does not start."""
    record = json.loads(refused(done, code))
    assert (record["level"], record["logger"]) == ("error", "telemetron.cli.output")
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
            last = terminal.readline()
            with pytest.raises(OSError, match="Input/output error"):  # nothing more was said
                terminal.readline()
    said = r"\d\d:\d\d:\d\d INFO    telemetron.web.server.server: "
    assert re.fullmatch(rf"{said}listening on http://127\.\d.* tokens=off\n", line)
    assert re.fullmatch(rf"{said}stopping signal={number.name}\n", last)


def test_serve_over_tls_below_a_path(tmp_path: Path) -> None:
    certificate = str(TLS / "cert.pem")
    config = tmp_path / "t.yaml"
    config.write_text(f"""server:
  root_path: /t
  tls: {{certfile: {certificate}, keyfile: {TLS}/key.pem, keyfile_password: hunter2}}""")
    with serving("--config", str(config)) as url:
        assert url.startswith("https://")
        done = invoke("state", "--url", url, SSL_CERT_FILE=certificate)
        assert json.loads(done.stdout)["id"] == "telemetron", done.stderr
        welcome = httpx.get(
            url, verify=ssl.create_default_context(cafile=certificate), timeout=SECONDS
        )
        assert f"{url}/t/system/state" in welcome.text
        assert "CERTIFICATE_VERIFY_FAILED" in refused(invoke("state", "--url", url), 1)
