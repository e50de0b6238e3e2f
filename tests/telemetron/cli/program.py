"""The program `telemetron` in tests: in this process, as a process of its own, on a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

import httpx
from click.testing import CliRunner

from telemetron.cli.commands import main

FOREIGN = ("TELEMETRON_", "SERVER_", "LOG_LEVEL", "HTTP_PROXY", "http_proxy")
SECONDS = 50


class Done(NamedTuple):
    """The output of a command, and its exit code."""

    stdout: str
    stderr: str
    exit_code: int


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"COLUMNS": "200", "TERM": "xterm"} | more


def invoke(*arguments: str, **env: str) -> Done:
    """Run the command in this process."""
    wanted = dict.fromkeys(os.environ) | environment(**env)
    runner = CliRunner(env=wanted)
    done = runner.invoke(main, arguments, prog_name="telemetron", catch_exceptions=False)
    return Done(done.stdout, done.stderr, done.exit_code)


def spawn(*arguments: str, **env: str) -> Done:
    """Run the command as a process with its output in pipes."""
    done = subprocess.run(
        [sys.executable, "-m", "telemetron", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(**env),
    )
    return Done(done.stdout, done.stderr, done.returncode)


def on_terminal(*arguments: str, **env: str) -> str:
    """Run the command with its output on a terminal; return the output."""
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


def failing_on_terminal(*arguments: str) -> str:
    """Run a command that fails with its output on a terminal; return its standard error."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "telemetron", *arguments],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        env=environment(),
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 1
    return done.stderr


@contextmanager
def serving(*arguments: str, port: int = 0, **env: str) -> Iterator[str]:
    """Run a server, on any free port if `port` is 0; yield its URL."""
    command = [sys.executable, "-m", "telemetron", "serve", "--port", str(port), *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(**env)
    ) as process:
        try:
            records = map(json.loads, process.stderr)
            said = (record["message"] for record in records)
            said = (message for message in said if not message.startswith(("source ", "finding ")))
            yield next(said).removeprefix("listening on ")
            process.send_signal(signal.SIGTERM)
            assert list(said) == ["stopping"]
            process.wait(SECONDS)
            assert process.returncode == 0
        finally:
            process.kill()


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """Run an HTTP server that gives every request this answer; yield its URL."""

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
    """Return the one line that a failed command writes."""
    assert (done.stdout, done.exit_code) == ("", code), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def beat(server: str, name: str, **fields: Any) -> str:
    """Send a heartbeat; return the place before it."""
    etag = httpx.get(f"{server}/system/state", timeout=SECONDS).headers["etag"]
    body = {"instance": "i1", "namespace": "cli", **fields}
    url = f"{server}/agents/{name}/heartbeat"
    while (sent := httpx.post(url, json=body, timeout=SECONDS)).status_code in (404, 503):
        time.sleep(0.01)  # the server still imports its collectors
    sent.raise_for_status()
    return etag.removeprefix('W/"').removesuffix('"')
