"""Holds: what is raised and ended when, and which entities are looked at before."""

from math import inf
from typing import Any

import pytest

from telemetron.diagnosis.conclusions import Conclusions
from telemetron.diagnosis.holds import Holds
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.trend import Ref
from tests.telemetron.diagnosis.system import System
from tests.telemetron.diagnosis.test_conclusions import Kept

RULE = Rule("R", "queues", "warning", 30, 10, "", "", "", lambda *_: iter(()))
ONE, OTHER = ("queues", "one"), ("queues", "other")


class Seen:
    """The holds of a system whose clock is moved by hand."""

    def __init__(self) -> None:
        system = System()
        self.clock = system.clock
        self.is_early = False
        self.conclusions = Conclusions(Kept(), system.view(), lambda _: [], {})
        self.holds = Holds(self.clock, self.conclusions, lambda _: self.is_early, [])

    def see(self, ref: Ref, *, is_sick: bool = True, **fields: Any) -> None:
        symptom = Symptom("R", "queues", ref[1], "", [], **fields)
        self.holds.look(ref)
        self.holds.see(ref, {symptom.id: (RULE, symptom)} if is_sick else {})

    def after(self, seconds: float) -> int:
        """Let time pass; return how many findings there are then."""
        self.clock.advance(seconds)
        self.holds.settle()
        for _ in self.conclusions.update(self.clock.monotonic()):
            pass
        return self.conclusions.count


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_a_hold_is_over_when_its_time_is(seen: Seen) -> None:
    seen.see(ONE)
    assert seen.holds.due == seen.clock.monotonic() + 30
    assert [seen.after(29), seen.after(1)] == [0, 1]
    assert seen.holds.due == inf
    seen.see(ONE, is_sick=False)
    assert [seen.after(9), seen.after(1)] == [1, 0]
    assert not seen.holds


def test_only_entities_of_due_cases_are_looked_at_before_they_are_raised(seen: Seen) -> None:
    seen.see(ONE)
    seen.clock.advance(20)
    seen.see(OTHER)
    seen.clock.advance(10)
    assert seen.holds.over() == [ONE]
    seen.see(ONE, is_sick=False)
    assert seen.after(0) == 0


def test_what_is_early_is_raised_once_it_is_early_no_longer(seen: Seen) -> None:
    seen.is_early = True
    seen.see(ONE)
    assert seen.after(40) == 0
    assert seen.holds.due == inf  # nothing to wake up for
    assert seen.holds.over() == [ONE]
    seen.is_early = False
    assert seen.after(0) == 1


def test_an_early_case_that_goes_is_never_raised(seen: Seen) -> None:
    seen.is_early = True
    seen.see(ONE)
    assert seen.after(40) == 0
    seen.see(ONE, is_sick=False)
    seen.is_early = False
    assert [seen.after(9), seen.after(1)] == [0, 0]
    assert not seen.holds


def test_what_comes_back_within_its_hold_begins_again_with_it(seen: Seen) -> None:
    seen.see(ONE, token=1)
    assert seen.after(20) == 0
    seen.see(ONE, token=2)
    assert [seen.after(29), seen.after(1)] == [0, 1]
