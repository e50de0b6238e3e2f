"""A browser's own EventSource: it reads the stream, and resumes it by itself where it is cut."""

import json
import queue
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.real.history.conftest import Serving
from tests.real.process import running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --remote-debugging-port=0"
)
PAGE = b"""<!doctype html><meta charset="utf-8"><script>
const source = new EventSource("/system/changes?sections=agents")
const report = what => fetch("/report", {method: "POST", body: JSON.stringify(what)})
source.onopen = () => report({opened: true})
source.onmessage = event => report({id: event.lastEventId, data: JSON.parse(event.data)})
</script>"""


class Front(BaseHTTPRequestHandler):
    """The page, and the stream passed through, cut after its first event."""

    upstream = ""
    reports: "queue.Queue[Any]"
    resumed: "queue.Queue[str | None]"
    cut: threading.Event

    def do_GET(self) -> None:
        if not self.path.startswith("/system/"):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE)
            return
        last = self.headers["Last-Event-ID"]
        self.resumed.put(last)
        headers = {"Accept": self.headers["Accept"]} | ({"Last-Event-ID": last} if last else {})
        request = urllib.request.Request(self.upstream + self.path, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as stream:
            self.send_response(200)
            self.send_header("content-type", stream.headers["content-type"])
            self.end_headers()
            told = False
            for line in stream:
                self.wfile.write(line)
                self.wfile.flush()
                told = told or line.startswith(b"data:")
                if told and line == b"\n":
                    break
        self.cut.set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.reports.put(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def front(upstream: str) -> Iterator[tuple[str, type[Front]]]:
    handler = type("Handler", (Front,), {"upstream": upstream})
    handler.reports, handler.resumed = queue.Queue(), queue.Queue()
    handler.cut = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_an_event_source_reads_and_resumes(serving: Serving, tmp_path: Path) -> None:
    with serving({}) as server, front(server.url) as (page, handler):
        server.beat("planner")
        command = [str(CHROMIUM), *OPTIONS.split(), f"--user-data-dir={tmp_path / 'profile'}"]
        with running([*command, page]):
            assert handler.reports.get(timeout=60) == {"opened": True}
            assert handler.resumed.get(timeout=1) is None
            server.beat("planner", version="1")
            told = handler.reports.get(timeout=30)
            assert told["id"] == told["data"]["to"]
            (change,) = told["data"]["changes"]
            new = {"instances/planner/version": {"old": None, "new": "1"}}
            assert change["fields"] == new

            # The connection is cut here; what happens before it is there again is not lost.
            assert handler.cut.wait(30)
            server.beat("planner", version="2")
            assert handler.reports.get(timeout=30) == {"opened": True}
            assert handler.resumed.get(timeout=1) == told["id"]
            resumed = handler.reports.get(timeout=30)
            assert resumed["data"]["from"] == told["id"]
            (change,) = resumed["data"]["changes"]
            new = {"instances/planner/version": {"old": "1", "new": "2"}}
            assert change["fields"] == new
