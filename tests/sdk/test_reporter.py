"""When beats go out, and what is said when they do not arrive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from telemetron_agent.endpoint import Endpoint
from telemetron_agent.reporter import DEBOUNCE, MAX_BACKOFF, Reporter, Trouble, describe


@pytest.fixture
def report() -> Iterator[Callable[..., Reporter]]:
    """Starts reporters of an agent without tasks."""
    started: list[Reporter] = []

    def report(url: str, interval: float = 60.0, token=lambda: None, state=None) -> Reporter:
        reporter = Reporter(
            Endpoint(url),
            name="a/b é",
            instance="host/1",
            namespace="n s",
            interval=interval,
            token=token,
            state=state or (lambda: ({"instance": "host/1"}, [])),
        )
        started.append(reporter)
        reporter.start()
        return reporter

    yield report
    for reporter in started:
        reporter.close(5.0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "telemetron_agent"]


def test_paths_are_percent_encoded(stand_in, report) -> None:
    report(stand_in.url)
    stand_in.wait_for_count(1)
    report(stand_in.url).close(5.0)
    stand_in.wait_for(lambda each: each.method == "DELETE")
    assert stand_in.requests[0].path == "/agents/a%2Fb%20%C3%A9/heartbeat"
    assert stand_in.goodbyes == ["/agents/a%2Fb%20%C3%A9/instances/host%2F1?namespace=n%20s"]


def test_beats_come_at_the_interval_and_are_numbered(stand_in, report) -> None:
    report(stand_in.url, interval=0.3)
    requests = stand_in.wait_for_count(5)
    assert [each.beat["sequence"] for each in requests] == [1, 2, 3, 4, 5]
    assert all(each.beat["sent_at"].endswith("Z") for each in requests)
    gaps = [requests[n + 1].at - requests[n].at for n in range(4)]
    assert min(gaps) > 0.25, gaps


def test_changes_are_told_together(stand_in, report) -> None:
    reporter = report(stand_in.url)
    first = stand_in.wait_for_count(1)[0]
    for _ in range(100):
        reporter.change()
    second = stand_in.wait_for_count(2)[1]
    assert second.at - first.at > DEBOUNCE * 0.9
    reporter.close(5.0)
    assert [each.method for each in stand_in.requests] == ["POST", "POST", "DELETE"]


def test_it_starts_once(stand_in, report) -> None:
    reporter = report(stand_in.url)
    before = threading.active_count()
    reporter.start()
    assert threading.active_count() <= before
    reporter.close(5.0)
    assert len(stand_in.beats) == 1


def test_closed_before_it_started(stand_in) -> None:
    reporter = Reporter(
        Endpoint(stand_in.url),
        name="x",
        instance="i",
        namespace=None,
        interval=1,
        token=lambda: None,
        state=lambda: ({}, []),
    )
    reporter.close(5.0)
    reporter.start()
    assert stand_in.requests == []


def test_trouble_is_said_once_and_its_end_once(stand_in, report, caplog) -> None:
    stand_in.mode, stand_in.body = "500", b'{"detail": "no room"}'
    report(stand_in.url, interval=0.05)
    stand_in.wait_for_count(3)
    assert len(warnings(caplog)) == 1
    assert "HTTP 500: no room" in warnings(caplog)[0]
    assert stand_in.url in warnings(caplog)[0]
    stand_in.mode = "ok"
    count = len(stand_in.requests)
    stand_in.wait_for_count(count + 3)
    assert len(warnings(caplog)) == 2
    assert "again" in warnings(caplog)[1]


def test_changes_do_not_hurry_a_server_in_trouble(stand_in, report) -> None:
    stand_in.mode, stand_in.extra = "503", {"Retry-After": "1"}
    reporter = report(stand_in.url, interval=0.05)
    first = stand_in.wait_for_count(1)[0]
    reporter.change()
    assert stand_in.wait_for_count(2)[1].at - first.at > 0.95


@pytest.mark.parametrize("mode", ["close", "garbage", "hang", "401", "413"])
def test_it_recovers(stand_in, report, caplog, monkeypatch, mode: str) -> None:
    monkeypatch.setattr("telemetron_agent.reporter.REQUEST_TIMEOUT", 0.2)
    stand_in.mode = mode
    report(stand_in.url, interval=0.05)
    stand_in.wait_for_count(2)
    stand_in.mode = "ok"
    stand_in.wait_for_count(len(stand_in.requests) + 3)
    assert len(warnings(caplog)) == 2, warnings(caplog)


def test_the_token_is_asked_each_time_and_never_said(stand_in, report, caplog) -> None:
    tokens = iter(["one", "sec\nret", "secret-€", "two", *["three"] * 1000])
    report(stand_in.url, interval=0.05, token=lambda: next(tokens))
    stand_in.wait_for(lambda each: each.headers["authorization"] == "Bearer three")
    assert [each.headers["authorization"] for each in stand_in.requests][:2] == [
        "Bearer one",
        "Bearer two",
    ]
    assert len(warnings(caplog)) == 2
    assert "ValueError" in warnings(caplog)[0]
    assert "sec" not in "".join(warnings(caplog))


def test_a_broken_log_handler_does_no_harm(stand_in, report) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError

    broken = Broken()
    logging.getLogger("telemetron_agent").addFilter(broken)
    try:
        stand_in.mode = "500"
        report(stand_in.url, interval=0.05)
        stand_in.wait_for_count(3)
    finally:
        logging.getLogger("telemetron_agent").removeFilter(broken)


def test_no_more_threads(stand_in, report, caplog, monkeypatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        reporter = report(stand_in.url)
    reporter.start()
    reporter.close(5.0)
    assert stand_in.requests == []
    assert len(warnings(caplog)) == 1


def test_the_pause_grows_to_a_bound() -> None:
    trouble = Trouble("agent", "place")
    pauses = [trouble.begin("why", 5.0) for _ in range(100)]
    assert 2.5 <= pauses[0] <= 7.5
    assert max(pauses) <= MAX_BACKOFF * 1.5
    assert min(pauses[2:]) >= MAX_BACKOFF * 0.5
    assert len(set(pauses[2:])) > 90
    trouble.end()
    assert trouble.begin("why", 1.0) <= 1.5


def test_how_an_exception_is_told() -> None:
    assert describe(ConnectionRefusedError(111, "refused")).startswith("ConnectionRefusedError: ")
    assert describe(ValueError("Bearer secret")) == "ValueError"
