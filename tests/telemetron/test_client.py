"""The client: wrong URLs, refusals, tokens."""

import json
import socket
from pathlib import Path

import pytest

from tests.telemetron.cli.program import (
    answering,
    invoke,
    refused,
    serving,
)


def test_a_server_that_does_not_run_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        line = refused(invoke("state", "--url", url), 1)
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
def test_a_wrong_url_is_an_error(url: str) -> None:
    line = refused(invoke("state", "--url", url), 1)
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
def test_an_error_response_is_one_line(status: int, body: bytes, said: str) -> None:
    with answering(status, body) as url:
        assert refused(invoke("state", "--url", url), 1) == f"{url}: {said}"


@pytest.mark.parametrize("command", [["state"], ["changes"], ["changes", "--follow"]])
def test_another_media_type_is_an_error(command: list[str]) -> None:
    with answering(200, b"<html>", **{"Content-Type": "text/html; charset=utf-8"}) as url:
        line = refused(invoke(*command, "--url", url), 1)
    media = "text/event-stream" if "--follow" in command else "application/json"
    assert line == f"{url}: expected {media}, got text/html; is this a Telemetron server?"


def test_the_token_is_read_from_a_file_or_the_environment(tmp_path: Path) -> None:
    config, token = tmp_path / "t.yaml", tmp_path / "token"
    config.write_text(f"server: {{auth: {{read_file: {token}, write: w}}}}")
    token.write_text("hunter2\n")
    with serving("--config", str(config)) as url:
        line = refused(invoke("state", "--url", url), 1)
        assert "--token-file" in line
        for options in (
            {"TELEMETRON_TOKEN": "hunter2"},
            {"TELEMETRON_TOKEN_FILE": str(token)},
            {"TELEMETRON_TOKEN": "wrong", "TELEMETRON_TOKEN_FILE": str(token)},
        ):
            done = invoke("state", "--url", url, **options)
            assert json.loads(done.stdout)["id"] == "telemetron", done.stderr
        done = invoke("state", "--url", url, "--token-file", str(token))
        assert json.loads(done.stdout)["id"] == "telemetron"
    line = refused(invoke("state", "--token-file", str(tmp_path / "none")), 1)
    assert line.endswith("none: cannot read the token: No such file or directory")
    line = refused(invoke("state", TELEMETRON_TOKEN="hunter\n2"), 1)
    assert line == "the token must be one line of printable ASCII"
