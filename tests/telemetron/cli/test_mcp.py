"""`telemetron mcp`: usage, the missing extra, and real HTTP."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.telemetron.cli.program import SECONDS, environment, invoke, refused, spawn

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.mark.parametrize("address", ["8081", "localhost", "localhost:", ":1", "x:65536", "x:a"])
def test_a_wrong_address_is_wrong_usage(address: str) -> None:
    done = invoke("mcp", "--http", address)
    assert done.exit_code == 2
    assert f"expected HOST:PORT, got {address}" in done.stderr


def test_a_token_of_its_own_is_refused_with_http(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    for options, env in (
        (["--token-file", str(token)], {}),
        ([], {"TELEMETRON_TOKEN": "hunter2"}),
    ):
        done = invoke("mcp", "--http", "127.0.0.1:0", *options, **env)
        assert done.exit_code == 2
        assert "each caller sends its own token" in done.stderr
        assert "hunter2" not in done.stderr


def test_names_are_only_for_http() -> None:
    assert "--allow-host needs --http" in invoke("mcp", "--allow-host", "x").stderr


@pytest.mark.parametrize("options", [[], ["--http", "127.0.0.1:0"]])
def test_a_wrong_url_is_an_error_at_start(options: list[str]) -> None:
    line = refused(invoke("mcp", "--url", "ftp://x", *options), 1)
    assert line.startswith("--url: expected http://HOST:PORT")


def test_without_the_extra_it_says_how_to_install_it() -> None:
    program = (
        "import importlib.util, runpy, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'mcp' else real(name, *a)\n"
        "sys.argv = ['telemetron', 'mcp']\n"
        "runpy.run_module('telemetron', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(),
    )
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == "the package mcp is not installed: pip install 'telemetron[mcp]'\n"


def test_it_serves_http_until_a_signal() -> None:
    command = [sys.executable, "-m", "telemetron", "mcp", "--http", "127.0.0.1:0"]
    command += ["--url", "http://127.0.0.1:1", "--allow-host", "mcp.prod"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            assert process.stderr
            assert process.stdout
            said = json.loads(process.stderr.readline())["message"]
            url = said.removeprefix("listening on ")
            with httpx.Client(base_url=url, trust_env=False, timeout=SECONDS) as client:
                for host in ("localhost", "mcp.prod:80"):
                    answer = client.post("/mcp", json=PING, headers={"host": host})
                    assert answer.json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
                assert client.post("/mcp", json=PING, headers={"host": "x"}).status_code == 421
                assert client.get("/mcp").status_code == 405
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            assert process.stdout.read() == ""
            assert json.loads(process.stderr.read())["message"] == "stopping"
        finally:
            process.kill()


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(spawn("mcp", "--http", f"127.0.0.1:{port}"), 1)
    assert f"cannot listen on 127.0.0.1 port {port}" in line


def test_the_server_never_imports_it() -> None:
    program = (
        "import sys\n"
        "import telemetron.cli.commands, telemetron.web.app, telemetron.web.server.server\n"
        "import telemetron.service.service, telemetron_collectors.heartbeats\n"
        "heavy = ('mcp', 'mcp_types', 'pydantic', 'telemetron.mcp')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.stdout == "[]\n", done.stderr
