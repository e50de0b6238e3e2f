"""Real clients list and call the tools: the Inspector, Claude Code, and the conformance suite."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.real.mcp import clients
from tests.real.process import running, wait_until

PROGRAM = str(Path(sys.executable).with_name("telemetron"))
NOWHERE = "http://127.0.0.1:1"
STDIO = (PROGRAM, "mcp", "--url", NOWHERE)
# The suite's other scenarios call tools, prompts and resources of its own example server.
SCENARIOS = ("server-initialize", "ping", "tools-list", "dns-rebinding-protection")
TOOLS = ["brief", "task", "entity", "state", "changes"]

pytestmark = pytest.mark.skipif(clients.missing() is not None, reason=str(clients.missing()))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server over HTTP, which reaches no Telemetron."""
    base = f"http://127.0.0.1:{free_port()}"
    with running([PROGRAM, "mcp", "--http", base.removeprefix("http://"), "--url", NOWHERE]):
        wait_until(lambda: serves(base), seconds=60, what="the server")
        yield f"{base}/mcp"


def serves(base: str) -> bool:
    try:
        return httpx.get(f"{base}/livez", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_the_applicable_scenarios_of_the_conformance_suite_pass(url: str, tmp_path: Path) -> None:
    started = {
        name: clients.start(
            "conformance", "server", "--url", url, "--scenario", name, home=tmp_path
        )
        for name in SCENARIOS
    }
    for name, process in started.items():
        with process:
            out, _ = process.communicate(timeout=clients.RUN_SECONDS)
        assert process.returncode == 0, (name, out)
        assert ", 0 failed, 0 warnings" in out, (name, out)


def test_the_inspector_lists_and_calls_over_stdio(tmp_path: Path) -> None:
    listed = clients.run("inspector", "--cli", *STDIO, "--method", "tools/list", home=tmp_path)
    assert [tool["name"] for tool in json.loads(listed)["tools"]] == TOOLS
    call = ("--method", "tools/call", "--tool-name", "state", "--tool-arg", "match=x")
    with clients.start("inspector", "--cli", *STDIO, *call, home=tmp_path) as process:
        out, _ = process.communicate(timeout=clients.RUN_SECONDS)
    assert "cannot be reached" in out


def test_the_inspector_lists_over_http(url: str, tmp_path: Path) -> None:
    options = ("--transport", "http", "--method", "tools/list")
    listed = clients.run("inspector", "--cli", url, *options, home=tmp_path)
    assert [tool["name"] for tool in json.loads(listed)["tools"]] == TOOLS


def test_claude_code_connects(url: str, tmp_path: Path) -> None:
    """By the commands of docs/mcp.md; without an account and a network."""
    clients.run("claude", "mcp", "add", "local", "--", *STDIO, home=tmp_path)
    header = ("--header", "Authorization: Bearer x")
    add = ("claude", "mcp", "add", "--transport", "http", "remote", url, *header)
    clients.run(*add, home=tmp_path)
    said = clients.run("claude", "mcp", "list", home=tmp_path)
    assert said.count("Connected") == 2, said
