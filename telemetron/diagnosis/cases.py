"""Cases: symptoms from their first sight until they have been gone for long enough."""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from msgspec import Struct

from telemetron import key
from telemetron.diagnosis import causes
from telemetron.diagnosis.causes import Steps
from telemetron.diagnosis.rule import SEVERITIES, Rule, Symptom
from telemetron.diagnosis.trend import Ref
from telemetron.document import Finding

Id = tuple[str, ...]

SOON_SECONDS = 15.0
WEIGHTS = {"PoisonTask": 2, "WaitCycle": 2, "SlotsExhausted": 2, "HandoffLoop": 1}


class Known(NamedTuple):
    """What the process before this one knew of a case."""

    since: datetime | None
    raised_at: datetime | None
    """None: it was an effect."""


class Case(Struct):
    """One symptom, of all entities that show it."""

    rule: Rule
    first: float
    """When its hold began, on a monotonic clock."""
    last: Symptom
    shown: dict[Ref, Symptom]
    """By the entity that shows it now."""
    since: datetime | None = None
    """When it began: the earliest time that any evidence has given, else when it was first seen;
    None: it was there already at the first look, and no evidence says."""
    gone: float | None = None
    raised_at: datetime | None = None
    was_raised_at: datetime | None = None
    """When the process before this one raised it: its hold is over."""

    @property
    def symptom(self) -> Symptom:
        """The symptom of the first entity by key; of a case that is going its last."""
        return self.shown[min(self.shown)] if self.shown else self.last

    @property
    def evident_since(self) -> datetime | None:
        """When it began, only by the evidence that is there now."""
        symptoms: Iterable[Symptom] = self.shown.values() or (self.last,)
        return min((one.since for one in symptoms if one.since), default=None)

    @property
    def name(self) -> str:
        """The key of its finding."""
        return name(self.symptom)

    @property
    def is_effect(self) -> bool:
        """Whether it is listed among the effects of another case that explains it."""
        return self.raised_at is not None and not self.symptom.is_group

    @property
    def due(self) -> float:
        """When its hold, or its going, is over; infinity: neither goes on."""
        if self.gone is not None:
            return self.gone + self.rule.clear_seconds
        if self.raised_at is not None:
            return inf
        return self.first + (0 if self.was_raised_at else self.rule.hold_seconds)

    def show(self, ref: Ref, symptom: Symptom, now: float, seen_at: datetime | None = None) -> bool:
        """Note that an entity shows the symptom; return whether that is news.

        `seen_at` is when Telemetron saw it begin, if it begins now.
        """
        before = self.shown.get(ref)
        if self.raised_at is None and (before or self.symptom).token != symptom.token:
            self.first, self.since, self.was_raised_at = now, seen_at, None
        if symptom.since and (self.since is None or symptom.since < self.since):
            self.since = symptom.since
        is_news = before != symptom or self.gone is not None
        self.shown[ref] = symptom
        self.gone = None
        return is_news

    def withdraw(self, ref: Ref, now: float) -> None:
        """Note that an entity shows the symptom no longer."""
        self.last = self.shown.pop(ref, self.last)
        if not self.shown:
            self.gone = now

    def severity(self, effects: Sequence["Case"] = ()) -> str:
        """Return the worst of its own severity and its effects'."""
        own = [one.symptom.severity or one.rule.severity for one in (self, *effects)]
        return min(own, key=SEVERITIES.index)

    def order(self, effects: Sequence["Case"] = ()) -> tuple[Any, ...]:
        """Return its rank: trouble of the observer, severity, number of effects, age."""
        severity = SEVERITIES.index(self.severity(effects))
        is_blind = self.symptom.section == "sources" and severity < 2
        return not is_blind, severity, -len(effects), self.since or self.raised_at, self.symptom.id


def known(findings: Iterable[Finding]) -> dict[str, Known]:
    """Return what these findings say of their cases and their effects' cases, by key."""
    found: dict[str, Known] = {}
    for one in findings:
        for effect in one.effects:
            path = [effect.path] if effect.path else []
            id = key.join(effect.rule, effect.section, effect.key, *path)
            found[id] = Known(effect.since, None)
    return found | {one.key: Known(one.since, one.raised_at) for one in findings}


def name(symptom: Symptom) -> str:
    """Return the key of a symptom's finding: the rule, and what has it."""
    if symptom.kind is not None:
        return key.join(symptom.rule, symptom.kind, symptom.name)
    path = [symptom.path] if symptom.path else []
    return key.join(symptom.rule, symptom.section, symptom.key, *path)


def roots(cases: Mapping[Id, Case], now: float, shown: Container[str]) -> Steps[dict[Id, list[Id]]]:
    """Find the cases that no other explains, each with those that it explains.

    `shown` are the keys of the findings as they are.
    """
    reduced: dict[Id, causes.Case] = {}
    for id, one in cases.items():
        reduced[id] = _reduced(one, now, one.name in shown)
        yield
    return (yield from causes.roots(reduced))


def _reduced(case: Case, now: float, is_shown: bool) -> causes.Case:
    """A case that will soon be raised explains others already, so that no effect is shown first."""
    left = 0.0 if case.raised_at else case.first + case.rule.hold_seconds - now
    symptoms: Iterable[Symptom] = case.shown.values() or (case.symptom,)
    return causes.Case(
        (case.symptom.section, case.symptom.key),
        case.evident_since,
        frozenset(node for one in symptoms for node in one.provides if left <= SOON_SECONDS),
        frozenset(node for one in symptoms for node in one.depends),
        WEIGHTS.get(case.rule.name, 0),
        case.raised_at is not None,
        is_shown,
    )
