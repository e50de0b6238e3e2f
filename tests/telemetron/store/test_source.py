"""A source's status, driven by a clock that is moved by hand."""

from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from telemetron.document import SourceRow
from telemetron.store.source import MAX_KNOWN, MAX_PROBLEMS, Source
from telemetron.testing import FakeClock

START = datetime(2030, 1, 1, tzinfo=UTC)
PROMISE = 10.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Watched:
    """A source, its clock, and every row that differed from the one before."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.source = Source("kafka", "kafka", self.clock, self.changed)
        self.rows = [self.source.row()]

    def changed(self, source: Source) -> None:
        self.rows.append(source.row())

    @property
    def row(self) -> SourceRow:
        """The row, which must be the one that was told of last."""
        row = self.source.row()
        assert row == self.rows[-1], "a change that nobody was told of"
        return row

    def problems(self) -> list[tuple[str, str]]:
        return [(problem.scope, problem.reason) for problem in self.row.problems]


@pytest.fixture
def off() -> Watched:
    return Watched()


@pytest.fixture
def watched(off: Watched) -> Watched:
    off.source.start(PROMISE)
    return off


@pytest.fixture
def ok(watched: Watched) -> Watched:
    watched.source.confirm()
    return watched


def test_off_until_it_is_started(off: Watched) -> None:
    assert off.row == SourceRow("kafka", "kafka", "off", START, None, None, 0, [])
    off.clock.advance(100)
    assert off.row.status == "off"


@pytest.mark.parametrize("call", ["confirm", "trouble"])
def test_scopes_before_the_start_are_an_error(off: Watched, call: str) -> None:
    with pytest.raises(RuntimeError, match=r"kafka: start\(\) must be called first"):
        off.source.confirm() if call == "confirm" else off.source.trouble("", "Timeout", "late")


def test_starting_until_something_is_confirmed(watched: Watched) -> None:
    assert (watched.row.status, watched.row.max_age_seconds) == ("starting", PROMISE)
    watched.clock.advance(1)
    watched.source.confirm()
    assert (watched.row.status, watched.row.since) == ("ok", at(1))
    assert watched.row.last_ok_at is None


def test_starting_until_every_expected_scope_is_confirmed(watched: Watched) -> None:
    watched.source.expect(["pods", "jobs"])
    watched.source.confirm("pods")
    assert watched.row.status == "starting"
    watched.source.confirm("jobs")
    assert watched.row.status == "ok"


def test_an_expected_scope_without_confirmation_becomes_stale(watched: Watched) -> None:
    watched.source.expect(["pods", "jobs"])
    watched.clock.advance(PROMISE / 2)
    watched.source.confirm("pods")
    watched.clock.advance(PROMISE / 2)
    assert (watched.row.status, watched.problems()) == ("stale", [("jobs", "Unconfirmed")])


def test_a_scope_that_is_no_longer_expected_is_forgotten(watched: Watched) -> None:
    watched.source.confirm("pods")
    watched.source.trouble("jobs", "Timeout", "late")
    watched.clock.advance(PROMISE)
    watched.source.confirm("pods")
    assert watched.row.status == "stale"
    watched.source.expect(["pods"])
    assert (watched.row.status, watched.problems()) == ("ok", [])


def test_a_scope_that_stays_expected_keeps_its_promise(watched: Watched) -> None:
    watched.source.confirm("pods")
    watched.clock.advance(PROMISE / 2)
    watched.source.expect(["pods", "jobs"])
    assert watched.row.status == "ok"
    watched.clock.advance(PROMISE / 2)
    assert (watched.row.status, watched.problems()) == ("stale", [("pods", "Unconfirmed")])


def test_max_age_is_shown_even_if_the_status_stays(off: Watched) -> None:
    off.source.load(30)
    assert (off.row.status, off.row.max_age_seconds) == ("starting", None)
    off.source.start(PROMISE)
    assert (off.row.status, off.row.max_age_seconds) == ("starting", PROMISE)


def test_starting_until_every_scope_is_confirmed(watched: Watched) -> None:
    watched.source.trouble("b", "Unreachable", "down")
    watched.source.confirm("a")
    assert watched.row.status == "starting"
    watched.source.confirm("b")
    assert (watched.row.status, watched.row.problems) == ("ok", [])


def test_nothing_confirmed_in_time_is_stale_and_says_why(watched: Watched) -> None:
    watched.clock.advance(PROMISE - 0.001)
    assert watched.row.status == "starting"
    watched.clock.advance(0.001)
    assert (watched.row.status, watched.row.since) == ("stale", at(PROMISE))
    assert watched.problems() == [("", "Unconfirmed")]
    assert watched.row.last_ok_at is None
    watched.source.confirm("any")
    assert (watched.row.status, watched.row.problems) == ("ok", [])


def test_a_collector_that_is_imported_for_ever_is_stale(off: Watched) -> None:
    off.source.load(30)
    off.clock.advance(30)
    assert off.row.status == "stale"
    assert off.problems() == [("", "Unconfirmed")]


def test_a_timer_flips_it_to_stale_and_a_confirmation_back(ok: Watched) -> None:
    ok.clock.advance(4)
    ok.source.confirm()
    ok.clock.advance(PROMISE - 0.001)
    assert ok.row.status == "ok"
    ok.clock.advance(0.001)
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("stale", at(14), at(4))
    assert ok.problems() == [("", "Unconfirmed")]
    ok.clock.advance(1)
    ok.source.confirm()
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("ok", at(15), None)
    assert ok.row.problems == []


def test_one_late_scope_is_enough(ok: Watched) -> None:
    ok.source.confirm("a")
    for _ in range(4):
        ok.clock.advance(5)
        ok.source.confirm()
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("stale", at(10), START)
    assert ok.problems() == [("a", "Unconfirmed")]


def test_last_ok_at_is_the_oldest_confirmation(ok: Watched) -> None:
    """`last_ok_at` moves while stale, and the row is told of."""
    ok.source.confirm("a", reason="Forbidden", message="no metrics")
    ok.clock.advance(5)
    ok.source.confirm()
    ok.clock.advance(10)
    assert ok.row.last_ok_at == START
    ok.source.confirm("a", reason="Forbidden", message="no metrics")
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("stale", at(10), at(5))


def test_confirmations_in_between_cost_no_timer(ok: Watched) -> None:
    told = len(ok.rows)
    for _ in range(100):
        ok.clock.advance(1)
        ok.source.confirm()
    assert len(ok.rows) == told


def test_trouble_degrades_at_once_and_becomes_stale(ok: Watched) -> None:
    ok.clock.advance(2)
    ok.source.trouble("", "Unreachable", "no route\nto host")
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("degraded", at(2), START)
    (problem,) = ok.row.problems
    assert (problem.scope, problem.reason, problem.message) == (
        "",
        "Unreachable",
        "no route to host",
    )
    assert problem.since == at(2)
    ok.clock.advance(8)
    assert (ok.row.status, ok.problems()) == ("stale", [("", "Unreachable")])
    assert (ok.row.since, ok.row.last_ok_at) == (at(10), START)


@pytest.mark.parametrize("reason", [None, "Forbidden", "MetricsUnavailable"])
def test_a_confirmation_ends_the_degradation_even_with_a_reason(
    ok: Watched, reason: str | None
) -> None:
    ok.source.trouble("", "Timeout", "late")
    ok.clock.advance(1)
    ok.source.confirm(reason=reason, message="certain")
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("ok", at(1), None)
    assert ok.problems() == ([("", reason)] if reason else [])


@pytest.mark.parametrize("reason", ["Unreachable", "Timeout", "Unauthorized"])
def test_a_confirmed_but_unanswered_scope_is_not_ok(ok: Watched, reason: str) -> None:
    ok.source.confirm("extra", reason=reason, message="no figures")
    assert (ok.row.status, ok.problems()) == ("degraded", [("extra", reason)])
    ok.clock.advance(5)
    ok.source.confirm()
    ok.source.confirm("extra", reason=reason, message="no figures")
    assert (ok.row.status, ok.row.last_ok_at) == ("degraded", at(5))
    ok.source.confirm("extra")
    assert (ok.row.status, ok.row.problems) == ("ok", [])


def test_degraded_until_every_scope_is_confirmed_again(ok: Watched) -> None:
    ok.source.confirm("a")
    ok.source.trouble("a", "Timeout", "late")
    ok.source.trouble("", "Timeout", "late")
    ok.clock.advance(3)
    ok.source.confirm()
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("degraded", START, START)
    ok.source.confirm("a")
    assert (ok.row.status, ok.row.since) == ("ok", at(3))


def test_a_scope_in_trouble_that_is_no_longer_expected_degrades_nothing(ok: Watched) -> None:
    ok.source.trouble("gone", "Timeout", "late")
    assert ok.row.status == "degraded"
    ok.source.expect([""])
    assert (ok.row.status, ok.problems()) == ("ok", [])


def test_trouble_before_the_first_complete_observation_leaves_it_starting(watched: Watched) -> None:
    watched.source.expect(["pods", "jobs"])
    watched.source.confirm("pods")
    watched.source.trouble("pods", "Timeout", "late")
    assert watched.row.status == "starting"
    watched.source.confirm("jobs")
    assert watched.row.status == "degraded"


def test_a_problem_keeps_since_until_its_reason_changes(ok: Watched) -> None:
    for second, (reason, message, since) in enumerate(
        [("Timeout", "a", 1), ("Timeout", "b", 1), ("Forbidden", "c", 3), ("Timeout", "d", 4)], 1
    ):
        ok.clock.advance(1)
        ok.source.trouble("", reason, message)
        (problem,) = ok.row.problems
        assert (problem.message, problem.since) == (message, at(since)), second
    ok.source.confirm()
    ok.source.trouble("", "Timeout", "again")
    assert ok.row.problems[0].since == at(4)


def test_a_new_scope_has_max_age_to_be_confirmed(ok: Watched) -> None:
    ok.source.trouble("new", "Forbidden", "no")
    ok.clock.advance(9)
    ok.source.trouble("new", "Forbidden", "no")
    ok.source.confirm()
    assert (ok.row.status, ok.row.last_ok_at) == ("degraded", None)
    ok.clock.advance(1)
    assert (ok.row.status, ok.row.last_ok_at) == ("stale", None)


def test_a_confirmation_with_a_problem(ok: Watched) -> None:
    ok.source.confirm("metrics", reason="Forbidden", message="not permitted")
    assert (ok.row.status, ok.problems()) == ("ok", [("metrics", "Forbidden")])
    ok.source.confirm("metrics")
    assert ok.row.problems == []


def test_a_failed_source_that_is_restarted(ok: Watched) -> None:
    ok.clock.advance(3)
    ok.source.fail("Crashed", "KeyError in the collector")
    assert (ok.row.status, ok.row.since, ok.row.last_ok_at) == ("failing", at(3), START)
    assert ok.problems() == [("", "Crashed")]
    ok.clock.advance(3)
    ok.source.start(PROMISE)
    assert (ok.row.status, ok.problems()) == ("degraded", [("", "Crashed")])
    ok.source.confirm()
    assert (ok.row.status, ok.row.problems) == ("ok", [])


def test_a_confirmation_with_a_reason_ends_the_failure_too(ok: Watched) -> None:
    ok.source.fail("Crashed", "it crashed")
    ok.source.start(PROMISE)
    ok.source.confirm(reason="Forbidden", message="no")
    assert ok.problems() == [("", "Forbidden")]


def test_failing_before_it_ran(off: Watched) -> None:
    off.source.fail("InvalidConfig", "brokers: missing")
    assert (off.row.status, off.row.max_age_seconds, off.row.last_ok_at) == ("failing", None, None)


def test_a_crashed_source_stays_failing_until_it_is_restarted(ok: Watched) -> None:
    ok.source.fail("Crashed", "it crashed")
    ok.source.confirm()
    ok.source.trouble("a", "Timeout", "late")
    assert (ok.row.status, ok.problems()) == ("failing", [("", "Crashed"), ("a", "Timeout")])


def test_a_failing_source_has_no_timer(ok: Watched) -> None:
    ok.source.fail("Crashed", "it crashed")
    ok.clock.advance(100)
    assert ok.problems() == [("", "Crashed")]
    ok.source.start(PROMISE)
    assert (ok.row.status, ok.problems()) == ("stale", [("", "Crashed"), ("", "Unconfirmed")])


def test_a_stopped_source_has_no_timer(ok: Watched) -> None:
    ok.source.stop()
    ok.source.confirm()
    ok.clock.advance(100)
    assert ok.row.status == "ok"


def test_an_unlimited_max_age(off: Watched) -> None:
    off.source.start(inf)
    off.source.confirm()
    off.clock.advance(1e9)
    assert (off.row.status, off.row.max_age_seconds) == ("ok", None)


def test_an_unknown_reason_is_an_error(ok: Watched) -> None:
    with pytest.raises(ValueError, match="unknown reason 'Tired'"):
        ok.source.trouble("", "Tired", "yawn")


def test_a_refused_part_has_a_problem_until_it_is_accepted(ok: Watched) -> None:
    ok.source.report("part", "queues a", "s", "Refused", "queues a: wrong")
    ok.source.report("group", "queues a", "", "DuplicateKey", "too many")
    assert ok.problems() == [("", "DuplicateKey"), ("s", "Refused")]
    ok.source.resolve("part", "queues a")
    ok.source.resolve("part", "queues never refused")
    assert ok.problems() == [("", "DuplicateKey")]
    ok.source.resolve("group", "queues a")
    assert ok.row.problems == []


def test_a_replacement_ends_older_refusals_of_its_scope(ok: Watched) -> None:
    for what, scope in (("gone", "s"), ("still", "s"), ("moved", "t"), ("other", "t")):
        ok.source.report("part", what, scope, "Refused", "wrong")
    ok.source.report("group", "gone", "s", "DuplicateKey", "too many")
    ok.clock.advance(1)
    ok.source.replace_refusals(
        "s", {"still", "moved", "new"}, {"still": "wrong", "new": "wrong too"}
    )
    assert ok.problems() == [
        ("s", "DuplicateKey"),
        ("s", "Refused"),
        ("s", "Refused"),
        ("t", "Refused"),
    ]
    assert [p.since for p in ok.row.problems] == [START, START, at(1), START]


def test_problems_are_bounded_in_number_and_length(ok: Watched) -> None:
    for number in range(MAX_KNOWN + 50):
        ok.source.report("part", f"queues {number}", "s" * 2000, "Refused", "m" * 2000)
    row = ok.row
    assert (len(row.problems), row.truncated) == (MAX_PROBLEMS, {"problems": MAX_KNOWN + 50})
    assert len(row.problems[0].scope) == len(row.problems[0].message) == 500


def test_problems_that_are_only_counted_end_like_the_others(ok: Watched) -> None:
    for number in range(MAX_KNOWN + 3):
        ok.source.report("part", f"queues {number}", "s", "Refused", "wrong")
    count = MAX_KNOWN + 3
    assert ok.row.truncated == {"problems": count}
    ok.source.resolve("part", f"queues {count - 1}")
    assert ok.row.truncated == {"problems": count - 1}
    ok.source.replace_refusals("s", set(), {f"queues {count - 2}": "wrong"})
    assert (ok.source.problem_count, len(ok.row.problems), ok.row.truncated) == (1, 1, None)


def test_many_refused_parts_hide_no_trouble(ok: Watched) -> None:
    for number in range(MAX_PROBLEMS):
        ok.source.report("part", f"queues {number}", "", "Refused", f"wrong {number:02}")
    ok.source.trouble("z", "Timeout", "late")
    assert ok.problems()[-1] == ("z", "Timeout")
    assert (len(ok.row.problems), ok.row.truncated) == (MAX_PROBLEMS, {"problems": 33})


def test_a_failure_and_a_trouble_are_always_listed(ok: Watched) -> None:
    for number in range(MAX_KNOWN):
        ok.source.report("part", f"queues {number}", "z", "Refused", "wrong")
    ok.source.trouble("a", "Timeout", "late")
    ok.source.fail("Crashed", "it crashed")
    assert ok.row.status == "failing"
    assert ok.problems()[:2] == [("", "Crashed"), ("a", "Timeout")]


def test_problems_are_sorted(ok: Watched) -> None:
    for scope, reason in (("b", "Timeout"), ("", "Timeout"), ("a", "Timeout"), ("a2", "Forbidden")):
        ok.source.trouble(scope, reason, "m")
    assert [scope for scope, _ in ok.problems()] == ["", "a", "a2", "b"]
