"""The outcome of each task reaches the history, although beats and their answers are lost."""

import json
import random
import socket
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PROGRAM = """
import json, sys, time
from telemetron_agent import Agent
agent = Agent("x", interval=1)
count, pause = int(sys.argv[1]), float(sys.argv[2])
begun = time.monotonic()
for number in range(count):
    place = {"queue": "q", "partition": number % 3, "offset": number}
    task = agent.task(f"t-{number}", parent_id="job", **place)
    time.sleep(max(0, begun + (number + 1) * pause - time.monotonic()))
    if number % 10 == 3:
        task.end_with(KeyError("a secret"))
    else:
        task.end("canceled" if number % 10 == 7 else "completed")
print("done", flush=True)
input()
"""


class LossyProxy:
    """Passes requests on; drops some of them, or their answers."""

    def __init__(self, upstream: str, loss: float, longest: int = 2) -> None:
        self.dropped = {"request": 0, "answer": 0}
        self.is_down = threading.Event()
        self._loss = loss
        self._longest = longest
        self._in_a_row = 0
        self._random = random.Random(19)
        proxy, self._upstream = self, upstream

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                lost = proxy.lost()
                if lost != "request":
                    status = proxy.forward(self.command, self.path, dict(self.headers), body)
                if lost:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                self.end_headers()

            do_DELETE = do_POST

            def log_message(self, format: str, *values: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def lost(self) -> str | None:
        if self.is_down.is_set():
            return "request"
        if self._in_a_row == self._longest or self._random.random() > self._loss:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        what = self._random.choice(["request", "answer"])
        self.dropped[what] += 1
        return what

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> int:
        headers = {"Content-Type": headers["Content-Type"]} if body else {}
        request = urllib.request.Request(
            self._upstream + path, body or None, headers, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def lossy(telemetron) -> Iterator[LossyProxy]:
    proxy = LossyProxy(telemetron.url, loss=0.3)
    yield proxy
    proxy.stop()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def history(url: str) -> Iterator[dict[str, Any]]:
    """Each end that the history of the agent has, oldest first."""
    changes: list[dict[str, Any]] = []
    path: str | None = "/system/history/agents/-/x?limit=1000&kinds=membership,tasks"
    while path:
        page = get(url + path)
        changes += page["changes"]
        path = page["next"]
    for change in reversed(changes):
        if change["change"] == "added":
            yield from reversed(change["new"]["activity"]["ended"])
        for name, field in reversed(change.get("fields", {}).items()):
            if name.startswith("activity/ended/") and "added" in field:
                yield field["added"]


def expected(number: int) -> dict[str, Any]:
    status = {3: "failed", 7: "canceled"}.get(number % 10, "completed")
    return {
        "id": f"t-{number}",
        "parent_id": "job",
        "status": status,
        "error": "KeyError" if status == "failed" else None,
        "queue": "q",
        "partition": number % 3,
        "offset": number,
    }


def test_every_outcome_of_1000_short_tasks_is_in_the_history(run, telemetron, lossy) -> None:
    process = run(PROGRAM, "1000", "0.04", url=lossy.url)
    assert process.stdout.readline() == "done\n"
    (agent,) = telemetron.wait_for(
        lambda agents: (
            agents and [end["id"] for end in agents[0]["activity"]["ended"][:1]] == ["t-999"]
        )
    )
    assert agent["activity"]["ended_count"] == 1000
    assert min(lossy.dropped.values()) >= 10, lossy.dropped
    ends = list(history(telemetron.url))
    assert [end["id"] for end in ends] == [f"t-{number}" for number in range(1000)]
    for number, end in enumerate(ends):
        assert expected(number).items() <= end.items()
        times = [datetime.fromisoformat(end[name]) for name in ("started_on", "ended_at")]
        assert times[0] <= times[1]
    newest = [end["id"] for end in agent["activity"]["ended"]]
    assert newest == [f"t-{number}" for number in range(999, 979, -1)]
    assert agent["activity"]["last_failure"]["task_id"] == "t-993"
    assert agent["instances"][0]["outcomes"] == {"completed": 800, "failed": 100, "canceled": 100}


def test_an_outage_keeps_the_newest_and_the_count(run, telemetron, lossy) -> None:
    lossy.is_down.set()
    process = run(PROGRAM, "300", "0.002", url=lossy.url)
    assert process.stdout.readline() == "done\n"
    lossy.is_down.clear()
    telemetron.wait_for(lambda agents: agents and agents[0]["activity"]["ended_count"] == 300)
    telemetron.wait_for(lambda agents: agents[0]["activity"]["ended"][0]["id"] == "t-299")
    ends = [end["id"] for end in history(telemetron.url)]
    assert ends == [f"t-{number}" for number in range(236, 300)]


def test_a_process_that_ends_at_once_reports_its_task(run, telemetron) -> None:
    program = "from telemetron_agent import Agent\nwith Agent('x').task('only'): pass"
    process = run(program, url=telemetron.url)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    telemetron.wait_for(lambda agents: agents == [])
    (end,) = history(telemetron.url)
    assert (end["id"], end["status"]) == ("only", "completed")
