"""When beats go out, and what is said when they do not arrive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from telemetron_agent import Task
from telemetron_agent.activity import Activity, nothing
from telemetron_agent.endpoint import Endpoint
from telemetron_agent.reporter import (
    LAST_BEAT_TIMEOUT,
    MAX_BACKOFF,
    TIMING,
    Reporter,
    Timing,
    Trouble,
    describe,
)


@pytest.fixture
def report() -> Iterator[Callable[..., Reporter]]:
    """Start reporters of an agent without tasks, which retry soon."""
    started: list[Reporter] = []

    def report(
        url: str,
        interval: float = 60.0,
        token=lambda: None,
        state=None,
        activity=None,
        request_timeout: float = TIMING.request_timeout,
    ) -> Reporter:
        reporter = Reporter(
            Endpoint(url),
            name="a/b é",
            instance="host/1",
            namespace="n s",
            interval=interval,
            token=token,
            state=state or (lambda most: ({"instance": "host/1"}, [])),
            **({"ends": activity.ends, "accept": activity.accept} if activity else {}),
            timing=Timing(first_backoff=0.02, request_timeout=request_timeout),
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
    report(stand_in.url, interval=0.15)
    requests = stand_in.wait_for_count(5)
    assert [each.beat["sequence"] for each in requests] == [1, 2, 3, 4, 5]
    assert all(each.beat["sent_at"].endswith("Z") for each in requests)
    gaps = [requests[n + 1].at - requests[n].at for n in range(4)]
    assert min(gaps) > 0.12, gaps


def test_one_beat_reports_several_changes(stand_in, report) -> None:
    reporter = report(stand_in.url)
    first = stand_in.wait_for_count(1)[0]
    for _ in range(100):
        reporter.change()
    second = stand_in.wait_for_count(2)[1]
    assert second.at - first.at > TIMING.debounce * 0.9
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
        state=lambda most: ({}, []),
    )
    reporter.close(5.0)
    reporter.start()
    assert stand_in.requests == []


def test_an_outage_and_its_end_are_logged_once(stand_in, report, caplog) -> None:
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


def test_changes_do_not_shorten_a_backoff(stand_in, report) -> None:
    stand_in.mode, stand_in.extra = "503", {"Retry-After": "1"}
    reporter = report(stand_in.url, interval=0.05)
    first = stand_in.wait_for_count(1)[0]
    reporter.change()
    assert stand_in.wait_for_count(2)[1].at - first.at > 0.95


@pytest.mark.parametrize("mode", ["close", "garbage", "hang", "401", "413"])
def test_it_recovers(stand_in, report, caplog, mode: str) -> None:
    stand_in.mode = mode
    report(stand_in.url, interval=0.05, request_timeout=0.2)
    stand_in.wait_for_count(2)
    stand_in.mode = "ok"
    stand_in.wait_for_count(len(stand_in.requests) + 3)
    assert len(warnings(caplog)) == 2, warnings(caplog)


def test_the_token_is_read_for_each_beat_and_never_logged(stand_in, report, caplog) -> None:
    tokens = iter(["one", "sec\nret", "secret-€", "two", *["three"] * 1000])
    report(stand_in.url, interval=0.05, token=lambda: next(tokens))
    stand_in.wait_for(lambda each: each.headers["authorization"] == "Bearer three")
    assert [each.headers["authorization"] for each in stand_in.requests][:2] == [
        "Bearer one",
        "Bearer two",
    ]
    assert len(warnings(caplog)) == 2
    assert "the token has a character that HTTP headers do not allow" in warnings(caplog)[0]
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


def test_a_thread_that_cannot_start_is_logged_once(stand_in, report, caplog) -> None:
    before = threading.stack_size(1 << 45)  # more than any machine can map
    try:
        reporter = report(stand_in.url)
    finally:
        threading.stack_size(before)
    reporter.start()
    reporter.close(5.0)
    assert stand_in.requests == []
    assert len(warnings(caplog)) == 1


def test_the_pause_grows_to_a_bound() -> None:
    trouble = Trouble("agent", "place")
    pauses = [trouble.begin("why") for _ in range(100)]
    assert TIMING.first_backoff * 0.5 <= pauses[0] <= TIMING.first_backoff * 1.5
    assert max(pauses) <= MAX_BACKOFF * 1.5
    assert min(pauses[7:]) >= MAX_BACKOFF * 0.5
    assert len(set(pauses[7:])) > 80
    trouble.end()
    assert trouble.begin("why") <= TIMING.first_backoff * 1.5


def test_exceptions_in_the_log() -> None:
    assert describe(ConnectionRefusedError(111, "refused")).startswith("ConnectionRefusedError: ")
    assert describe(ValueError("Bearer secret")) == "ValueError"


def test_a_flush_sends_a_beat_now(stand_in, report) -> None:
    reporter = report(stand_in.url)
    stand_in.wait_for_count(1)
    assert reporter.flush(30)
    assert len(stand_in.beats) == 2


def test_a_flush_starts_the_thread(stand_in, report) -> None:
    reporter = Reporter(
        Endpoint(stand_in.url),
        name="x",
        instance="i",
        namespace=None,
        interval=60,
        token=lambda: None,
        state=lambda most: ({"instance": "i"}, []),
    )
    assert reporter.flush(30)
    reporter.close(5.0)
    assert not reporter.flush(30)


def test_a_flush_waits_no_longer_than_its_timeout(stand_in, report) -> None:
    stand_in.mode = "hang"
    reporter = report(stand_in.url, request_timeout=30.0)
    before = time.monotonic()
    for timeout in (0, -1, None, "soon", float("nan"), 0.05):
        assert not reporter.flush(timeout)
    assert time.monotonic() - before < 20
    stand_in.stop()  # so that nothing waits for it


def test_a_flush_ends_a_backoff(stand_in, report) -> None:
    stand_in.mode, stand_in.extra = "503", {"Retry-After": "300"}
    reporter = report(stand_in.url)
    stand_in.wait_for_count(1)
    assert not reporter.flush(30)
    stand_in.mode = "ok"
    assert reporter.flush(30)


def test_all_closes_share_one_time(stand_in, report) -> None:
    stand_in.mode = "hang"
    reporter = report(stand_in.url, request_timeout=2.0)
    stand_in.wait_for_count(1)
    before = time.monotonic()
    for _ in range(40):
        reporter.close(0.3)
    assert 0.25 < time.monotonic() - before < 10
    stand_in.stop()


def test_a_log_handler_that_flushes_does_not_wait_for_itself(stand_in, report) -> None:
    flushed: list[bool] = []

    class Flushes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            flushed.append(reporters[0].flush(30))
            reporters[0].close(30)

    reporters: list[Reporter] = []
    handler = Flushes()
    logging.getLogger("telemetron_agent").addHandler(handler)
    try:
        go = threading.Event()

        def token() -> None:
            go.wait(30)

        stand_in.mode = "500"
        reporters.append(report(stand_in.url, token=token))
        go.set()
        assert reporters[0].done.wait(25)
    finally:
        logging.getLogger("telemetron_agent").removeHandler(handler)
    assert flushed == [False]


def test_a_flush_during_close_returns(stand_in, report) -> None:
    stand_in.mode = "slow"
    reporter = report(stand_in.url)
    stand_in.wait_for_count(1)
    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(reporter.flush, 60)
        while not flushing.running():
            pass
        reporter.close(5.0)
        assert flushing.result(30) in (True, False)


def test_a_beat_that_is_too_large_becomes_smaller(stand_in, report, caplog) -> None:
    activity = Activity(nothing)
    tasks = [Task(activity, f"{number:03}" + "x" * 250) for number in range(500)]
    stand_in.mode, stand_in.body = "413", b'{"detail": "too large"}'
    report(
        stand_in.url,
        state=lambda most: ({"instance": "i", "task_count": 500}, activity.snapshot(most)[0]),
    )
    sizes = [each.size for each in stand_in.wait_for_count(3)]
    assert sizes[0] > 1.9 * sizes[1] > 3.6 * sizes[2]
    stand_in.mode = "ok"
    stand_in.wait_for_count(len(stand_in.requests) + 1)
    assert stand_in.beats[-1]["tasks"][0]["id"] == tasks[0].id
    assert sum("HTTP 413: too large" in each for each in warnings(caplog)) == 1


def test_the_cause_of_a_refused_beat_is_logged_during_an_outage(stand_in, report, caplog) -> None:
    stand_in.mode = "500"
    report(stand_in.url)
    stand_in.wait_for_count(2)
    stand_in.mode, stand_in.body = "422", b'{"detail": "$.tasks[0].id"}'
    stand_in.wait_for_count(len(stand_in.requests) + 2)
    assert ["422" in each for each in warnings(caplog)] == [False, True]


def test_different_refusals_are_bounded(caplog) -> None:
    trouble = Trouble("agent", "place")
    for number in range(100):
        trouble.begin(f"HTTP 422: {number}", refused=True)
    assert 16 <= len(warnings(caplog)) <= 100


# ends


def listed(beat) -> list[str]:
    return [end["id"] for end in beat["ended"]]


@pytest.mark.parametrize("mode", ["close", "500", "garbage"])
def test_an_end_is_repeated_until_a_beat_with_it_is_accepted(stand_in, report, mode: str) -> None:
    activity = Activity(nothing)
    Task(activity, "a").end()
    stand_in.mode = mode
    reporter = report(stand_in.url, activity=activity)
    stand_in.wait_for_count(2)
    Task(activity, "b").end()
    stand_in.mode = "ok"
    stand_in.wait_for_beat(lambda beat: listed(beat) == ["a", "b"])
    assert reporter.flush(30)
    assert reporter.flush(30)
    assert listed(stand_in.beats[-1]) == []
    assert activity.ends() == []
    assert [listed(beat)[:1] for beat in stand_in.beats[:2]] == [["a"], ["a"]]


def test_ends_that_do_not_fit_come_with_the_next_beats(stand_in, report) -> None:
    activity = Activity(nothing)
    for number in range(64):
        Task(activity, f"{number:02}" + "ü" * 254, queue="ü" * 256).end(
            "failed", "\U0001f600" * 500
        )
    report(stand_in.url, activity=activity)
    stand_in.wait_for_beat(lambda beat: listed(beat)[-1:] and listed(beat)[-1].startswith("63"))
    beats = [listed(beat) for beat in stand_in.beats if beat["ended"]]
    assert len(beats) > 1
    assert [id[:2] for ids in beats for id in ids] == [f"{number:02}" for number in range(64)]


def test_the_goodbye_comes_after_the_last_ends(stand_in, report) -> None:
    activity = Activity(nothing)
    reporter = report(stand_in.url, activity=activity)
    stand_in.wait_for_count(1)
    Task(activity, "last").end()
    reporter.close(5)
    assert [(one.method, listed(one.beat)) for one in stand_in.requests[-2:]] == [
        ("POST", ["last"]),
        ("DELETE", []),
    ]


def test_no_last_beat_without_ends(stand_in, report) -> None:
    activity = Activity(nothing)
    reporter = report(stand_in.url, activity=activity)
    stand_in.wait_for_count(1)
    reporter.close(5)
    assert [one.method for one in stand_in.requests] == ["POST", "DELETE"]


def test_a_hanging_server_delays_the_goodbye_by_half_a_second(stand_in, report) -> None:
    activity = Activity(nothing)
    reporter = report(stand_in.url, activity=activity)
    assert reporter.flush(30)
    Task(activity, "last").end()
    stand_in.mode = "hang"
    begun = time.monotonic()
    reporter.close(0)
    stand_in.wait_for(lambda one: one.method == "DELETE")
    assert time.monotonic() - begun >= LAST_BEAT_TIMEOUT
