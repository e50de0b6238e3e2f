"""The program over standard input and output: only messages, and an end with the input."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.telemetron.cli.program import SECONDS, environment
from tests.telemetron.mcp.clients import INITIALIZE, call, request, text

NOWHERE = "http://127.0.0.1:1"
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class Program:
    """A process `telemetron mcp`, past the handshake."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.send(request("initialize", **INITIALIZE))
        assert self.receive()["result"]["serverInfo"]["name"] == "telemetron"
        self.send(READY)

    def send(self, *messages: Any) -> None:
        assert self.process.stdin
        for one in messages:
            line = one if isinstance(one, bytes) else json.dumps(one).encode()
            self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end(self) -> tuple[list[Any], bytes]:
        """Close the input; return the remaining messages, and standard error."""
        out, err = self.process.communicate(timeout=SECONDS)
        return [json.loads(line) for line in out.splitlines()], err


@contextmanager
def program(*arguments: str, **env: str) -> Iterator[Program]:
    with subprocess.Popen(
        [sys.executable, "-m", "telemetron", "mcp", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**env),
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_the_official_client() -> None:
    command = ["-m", "telemetron", "mcp", "--url", NOWHERE]
    server = StdioServerParameters(command=sys.executable, args=command, env=environment())
    async with Client(stdio_client(server)) as client:
        assert len((await client.list_tools()).tools) == 5
        result = await client.call_tool("state", {})
    assert text(result)["error"].startswith(f"{NOWHERE}: cannot be reached")


def test_wrong_messages_do_not_end_it_and_it_stays_quiet() -> None:
    huge = call("state", 8, match="x" * 5_000_000)
    with program("--url", NOWHERE) as running:
        running.send(b"{", b"[]", b"\xff\xfe", b"1", b"", b"[" * 100_000)
        running.send(request("nothing", 7), huge, call("stat", 9), call("state", 10, match=3))
        answers = {one["id"]: one for one in (running.receive() for _ in range(4))}
        rest, err = running.end()
    assert running.process.returncode == 0
    assert answers[7]["error"]["code"] == -32601
    assert text(answers[8]["result"]) == {"error": "match: longer than 2000 characters"}
    assert answers[9]["error"]["code"] == -32602
    assert answers[10]["result"]["isError"]
    assert (rest, err) == ([], b"")


def test_the_end_of_input_ends_it_during_a_call(silent: str) -> None:
    with program("--url", silent) as running:
        running.send(call("state", 2))
        _, err = running.end()
    assert (running.process.returncode, err) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_during_a_call(silent: str, number: signal.Signals) -> None:
    with program("--url", silent) as running:
        running.send(call("state", 2))
        running.process.send_signal(number)
        assert running.process.wait(SECONDS) == -number
        assert running.process.stderr
        assert running.process.stderr.read() == b""


def test_calls_are_answered_in_parallel(silent: str) -> None:
    with program("--url", silent) as running:
        running.send(call("state", 2), request("ping", 3))
        assert running.receive()["id"] == 3


def test_the_token_is_sent_and_not_shown(tmp_path: Any) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with program("--url", url, "--token-file", str(token)) as running:
            running.send(call("state", 2))
            connection, _ = listening.accept()
            with connection:
                assert b"\r\nAuthorization: Bearer hunter2\r\n" in connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                answer = running.receive()
            _, err = running.end()
    assert text(answer["result"])["error"].startswith("401 the read token is missing or wrong")
    assert "hunter2" not in json.dumps(answer)
    assert err == b""
