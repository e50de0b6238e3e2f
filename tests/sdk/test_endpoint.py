from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from telemetron_agent.endpoint import MAX_RETRY_AFTER, Answer, Endpoint


def post(url: str, path: str = "/agents/x/heartbeat", timeout: float = 5.0) -> Answer:
    return Endpoint(url).send("POST", path, b"{}", "a-token", timeout)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://host", "http://", "http://host:port", "http://host:70000", "http://[::1"],
)
def test_no_usable_url(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the standard library's texts vary
        Endpoint(url)


def test_a_beat(stand_in) -> None:
    assert post(stand_in.url) == Answer(204, 0.0, "")
    (request,) = stand_in.requests
    assert (request.method, request.path) == ("POST", "/agents/x/heartbeat")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer a-token"


def test_a_goodbye_has_no_body(stand_in) -> None:
    Endpoint(stand_in.url).send("DELETE", "/agents/x/instances/i", None, None, 5.0)
    (request,) = stand_in.requests
    assert (request.method, request.size) == ("DELETE", 0)
    assert not {"authorization", "content-type"} & request.headers.keys()


@pytest.mark.parametrize("prefix", ["/prefix", "/prefix/"])
def test_a_path_prefix_is_kept(stand_in, prefix: str) -> None:
    post(stand_in.url + prefix)
    assert stand_in.requests[0].path == "/prefix/agents/x/heartbeat"


def test_proxies_are_ignored(stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(stand_in.url).status == 204


def test_credentials_in_the_url_are_not_shown() -> None:
    assert Endpoint("https://me:secret@host:8443/t/").place == "https://host:8443/t"


@pytest.mark.parametrize("status", [200, 301, 401, 413, 500])
def test_any_status_is_an_answer(stand_in, status: int) -> None:
    stand_in.mode = str(status)
    assert post(stand_in.url).status == status


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"title": "T", "detail": "$.tasks[0].id: too\\nlong"}', "$.tasks[0].id: toolong"),
        (b'{"title": "T"}', "T"),
        (b"{}", ""),
        (b"[]", ""),
        (b"<html>", ""),
        (b"\xff", ""),
    ],
)
def test_why_it_was_refused(stand_in, body: bytes, reason: str) -> None:
    stand_in.mode, stand_in.body = "422", body
    assert post(stand_in.url) == Answer(422, 0.0, reason)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0", 0.0), ("999999999", MAX_RETRY_AFTER), ("soon", 0.0), ("-3", 0.0)],
)
def test_retry_after(stand_in, header: str, seconds: float) -> None:
    stand_in.mode, stand_in.extra = "503", {"Retry-After": header}
    assert post(stand_in.url).retry_after == seconds


def test_retry_after_may_be_a_date(stand_in) -> None:
    date = formatdate(time.time() + 60, usegmt=True)
    stand_in.mode, stand_in.extra = "429", {"Retry-After": date}
    assert 50 < post(stand_in.url).retry_after <= 60


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_one_deadline_for_all(stand_in, mode: str) -> None:
    stand_in.mode = mode
    before = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        post(stand_in.url, timeout=0.5)
    assert 0.4 < time.monotonic() - before < 25


@pytest.mark.parametrize("mode", ["garbage", "close"])
def test_no_answer_at_all(stand_in, mode: str) -> None:
    stand_in.mode = mode
    with pytest.raises(http.client.HTTPException):
        post(stand_in.url)


def test_a_refused_connection_is_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            post(f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -batch -subj /CN=127.0.0.1"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {file.parent}/key -out {file}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    with file.open("ab") as both:
        both.write(file.with_name("key").read_bytes())
    return file


def test_https(start: Callable[..., object], certificate: Path, monkeypatch) -> None:
    server = start(certificate)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        post(server.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    endpoint = Endpoint(server.url)
    for _ in range(2):
        assert endpoint.send("POST", "/agents/x/heartbeat", b"{}", None, 5.0).status == 204
