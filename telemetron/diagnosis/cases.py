"""Cases: symptoms from their first sight until they have been gone for long enough."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from msgspec import Struct

from telemetron import key
from telemetron.diagnosis import causes
from telemetron.diagnosis.causes import Id
from telemetron.diagnosis.rule import SEVERITIES, Rule, Symptom
from telemetron.diagnosis.trend import Ref
from telemetron.document import Finding

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
    id: Id = ()
    name: str = ""
    """The key of its finding."""
    first_ref: Ref | None = None
    """The first entity that shows it, by key; None: it has to be looked for."""

    def __post_init__(self) -> None:
        self.id, self.name = self.last.id, name(self.last)

    @property
    def symptom(self) -> Symptom:
        """The symptom of the first entity by key; of a case that is going its last."""
        if not self.shown:
            return self.last
        if self.first_ref is None:
            self.first_ref = min(self.shown)
        return self.shown[self.first_ref]

    @property
    def evident_since(self) -> datetime | None:
        """When it began, only by the evidence that is there now."""
        symptoms: Iterable[Symptom] = self.shown.values() or (self.last,)
        return min((one.since for one in symptoms if one.since), default=None)

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

    @property
    def soon(self) -> float:
        """When its hold will soon be over."""
        return self.first + self.rule.hold_seconds - SOON_SECONDS

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
        if len(self.shown) == 1 or (self.first_ref is not None and ref < self.first_ref):
            self.first_ref = ref
        self.gone = None
        return is_news

    def withdraw(self, ref: Ref, now: float) -> None:
        """Note that an entity shows the symptom no longer."""
        self.last = self.shown.pop(ref, self.last)
        if ref == self.first_ref:
            self.first_ref = None
        if not self.shown:
            self.gone = now

    def severity(self, effects: Sequence["Case"] = ()) -> str:
        """Return the worst of its own severity and its effects'."""
        return SEVERITIES[self._severity(effects)]

    def order(self, effects: Sequence["Case"] = ()) -> tuple[Any, ...]:
        """Return its rank: trouble of the observer, severity, number of effects, age."""
        severity = self._severity(effects)
        is_blind = self.symptom.section == "sources" and severity < 2
        return not is_blind, severity, -len(effects), self.since or self.raised_at, self.id

    def _severity(self, effects: Sequence["Case"]) -> int:
        own = SEVERITIES.index(self.symptom.severity or self.rule.severity)
        return min(own, *(one._severity(()) for one in effects)) if effects else own


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
        scope = [symptom.scope] if symptom.scope else []
        return key.join(symptom.rule, symptom.kind, symptom.name, *scope)
    path = [symptom.path] if symptom.path else []
    return key.join(symptom.rule, symptom.section, symptom.key, *path)


def reduced(case: Case, now: float, is_shown: bool) -> causes.Case:
    """Return what of a case explains others and is explained.

    A case that will soon be raised explains others already, so that no effect is shown first.
    """
    symptoms: Iterable[Symptom] = case.shown.values() or (case.last,)
    is_soon = case.raised_at is not None or case.soon <= now
    return causes.Case(
        (case.symptom.section, case.symptom.key),
        case.evident_since,
        tuple({node: None for one in symptoms for node in one.provides if is_soon}),
        tuple({node: None for one in symptoms for node in one.depends}),
        WEIGHTS.get(case.rule.name, 0),
        case.raised_at is not None,
        is_shown,
    )
