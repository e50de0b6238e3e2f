"""Findings fire and end only while their sources are in sight."""

from datetime import timedelta

import msgspec
import pytest

from telemetron.document import SourceProblem, SourceRow
from telemetron.notifications.pace import DEFAULTS
from telemetron.notifications.sight import Sight
from telemetron.notifications.tracker import MAX_PAST, Past, Shown, Tracker
from telemetron.testing import FakeClock
from tests.telemetron.notifications.stage import BEGAN, finding

KEY = finding().key
GRACE_SECONDS = DEFAULTS.grace


class Watched:
    """A tracker and what it sees."""

    def __init__(self, past: Past | None = None) -> None:
        self.clock = FakeClock()
        self.sight = Sight(self.clock)
        self.tracker = Tracker(self.clock, self.sight, lambda one: one.severity != "info", past)
        self.status("findings", "ok")
        self.status("kafka", "ok")
        self.clock.advance(1)

    def status(self, name: str, status: str, *problems: str) -> None:
        listed = [SourceProblem("", reason, "", BEGAN) for reason in problems]
        row = SourceRow(name, name, status, BEGAN, None, None, 0, listed)
        self.sight.look([row])

    def show(self, **fields: object) -> list[str]:
        one = finding(**fields)  # type: ignore[arg-type]
        self.tracker.look({one.key: Shown(one, ("kafka",), {})})
        return self.edges()

    def end(self) -> list[str]:
        self.tracker.look({KEY: None})
        return self.edges()

    def edges(self) -> list[str]:
        return [edge.kind for edge in self.tracker.edges()]

    def after(self, seconds: float) -> list[str]:
        self.clock.advance(seconds)
        return self.edges()


def test_a_finding_fires_once_and_ends_once() -> None:
    seen = Watched()
    assert seen.show() == ["fired"]
    assert seen.show() == []
    assert not seen.tracker.is_waiting
    assert seen.end() == ["resolved"]
    assert seen.after(10_000) == []


@pytest.mark.parametrize("name", ["kafka", "findings"])
def test_a_source_out_of_sight_ends_no_finding(name: str) -> None:
    seen = Watched()
    seen.show()
    seen.status(name, "stale")
    assert seen.end() == []
    assert seen.after(100_000) == []
    seen.status(name, "ok")
    assert seen.tracker.is_waiting
    assert seen.after(GRACE_SECONDS - 1) == []
    assert seen.after(1) == ["resolved"]


def test_a_finding_that_comes_back_after_a_break_goes_on() -> None:
    seen = Watched()
    seen.show()
    seen.status("kafka", "failing")
    seen.end()
    seen.status("kafka", "ok")
    seen.clock.advance(10)
    assert seen.show(since=BEGAN + timedelta(hours=1)) == []
    assert seen.end() == ["resolved"]


def test_a_finding_of_a_source_out_of_sight_fires_when_it_is_seen() -> None:
    seen = Watched()
    seen.status("kafka", "stale")
    assert seen.show() == []
    seen.status("kafka", "ok")
    assert seen.edges() == ["fired"]


def test_a_degraded_source_is_in_sight() -> None:
    seen = Watched()
    seen.status("kafka", "degraded")
    assert seen.show() == ["fired"]
    assert seen.end() == ["resolved"]


def test_findings_that_are_cut_from_a_long_list_have_not_ended() -> None:
    seen = Watched()
    seen.show()
    seen.status("findings", "ok", "LimitReached")
    assert seen.end() == []
    seen.status("findings", "ok")
    assert seen.after(GRACE_SECONDS) == ["resolved"]


def test_a_source_that_was_switched_off_keeps_no_finding() -> None:
    seen = Watched()
    seen.show()
    seen.status("kafka", "off")
    assert seen.end() == ["resolved"]


def test_over_a_restart_an_open_finding_waits_until_it_could_have_come_back() -> None:
    before = Watched()
    before.show()
    body = msgspec.json.encode(before.tracker.past)
    for comes_back in (True, False):
        seen = Watched(msgspec.json.decode(body, type=Past))
        seen.status("kafka", "starting")
        assert seen.after(GRACE_SECONDS) == []
        seen.status("kafka", "ok")
        if comes_back:
            assert seen.show(since=None) == []
            assert seen.after(10_000) == []
        else:
            assert seen.after(GRACE_SECONDS - 1) == []
            assert seen.after(1) == ["resolved"]


def test_the_worst_severity_stays() -> None:
    seen = Watched()
    assert seen.show(severity="info") == []
    assert seen.show(severity="warning") == ["fired"]
    assert seen.show(severity="critical") == []
    assert seen.show(severity="info") == []
    reported = seen.tracker.reported[KEY]
    assert (reported.severity, reported.finding.severity) == ("critical", "info")


def test_the_identity_is_since_or_else_when_it_was_raised_and_never_repeats() -> None:
    seen = Watched()
    raised_at = BEGAN + timedelta(minutes=1)
    identities = []
    for since in (None, None, BEGAN + timedelta(hours=2)):
        seen.show(since=since, raised_at=raised_at)
        identities.append(seen.tracker.reported[KEY].at)
        seen.end()
    assert identities == [raised_at, seen.clock.now(), BEGAN + timedelta(hours=2)]


def test_the_memory_of_ends_is_bounded() -> None:
    seen = Watched()
    for number in range(MAX_PAST + 10):
        one = finding(str(number))
        seen.tracker.look({one.key: Shown(one, (), {})})
        seen.tracker.edges()
        seen.tracker.look({one.key: None})
        seen.tracker.edges()
    assert len(seen.tracker.past.ended) == MAX_PAST
