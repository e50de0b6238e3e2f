"""Diagnosis: from publications to findings.

It evaluates the rules of each entity that changed, keeps every symptom as a case until its hold is
over, explains cases by each other, and puts the roots into the section `findings`.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct

from telemetron import key
from telemetron.collector import Output
from telemetron.diagnosis import causes
from telemetron.diagnosis.evidence import MISSING, value_at
from telemetron.diagnosis.indexes import indexes
from telemetron.diagnosis.rule import SEVERITIES, Rule, Symptom
from telemetron.diagnosis.settings import FindingsSettings, RuleSettings
from telemetron.diagnosis.trend import EVERY_SECONDS, Ref, Trends
from telemetron.diagnosis.view import View
from telemetron.document import MAX_EFFECTS, MAX_EVIDENCE, Effect, Evidence, Finding, Root
from telemetron.slices import sliced
from telemetron.store.store import Publication, Store

SECTION = "findings"
COST_TO_REST = 50
MAX_REST_SECONDS = 5.0
CONFIRM_SECONDS = 10.0
SOON_SECONDS = 15.0
DONE = object()
MAX_FINDINGS = 200
MAX_BYTES = 1_500
MAX_SUMMARY = 300
ENOUGH = 3
"""Pieces of evidence that are left, however many effects there are."""
SEEN = ("ok", "degraded")
"""Statuses of a source whose section is believed."""
OBSERVED_BY = {
    "agents": ("heartbeats",),
    "workload": ("kubernetes",),
    "queues": ("kafka",),
    "litellm": ("litellm",),
}
WEIGHTS = {"PoisonTask": 2, "WaitCycle": 2, "SlotsExhausted": 2, "HandoffLoop": 1}


class Case(Struct):
    """One symptom from its first sight until it has been gone for long enough."""

    rule: Rule
    first: float
    """When its hold began, on a monotonic clock."""
    last: Symptom
    shown: dict[Ref, Symptom]
    """By the entity that shows it now."""
    since: datetime | None = None
    gone: float | None = None
    raised_at: datetime | None = None

    @property
    def symptom(self) -> Symptom:
        """The symptom of the first entity by key; of a case that is going its last."""
        return self.shown[min(self.shown)] if self.shown else self.last


class Diagnosis:
    """The state of one run."""

    def __init__(
        self,
        store: Store,
        output: Output,
        rules: Mapping[str, Rule],
        settings: FindingsSettings,
        diagnosed: asyncio.Event,
    ) -> None:
        self._store = store
        self._output = output
        self._clock = output.clock
        self._settings = settings
        self._rules = _by_section(rules, settings)
        self._cases: dict[tuple[str, ...], Case] = {}
        self._by_ref: dict[Ref, set[tuple[str, ...]]] = {}
        self._changed: dict[Ref, None] = {}
        """Entities that were published since the last round."""
        self._dirty: dict[Ref, None] = {}
        """Entities that have to be evaluated."""
        self._cost = 0.0
        self._not_before = 0.0
        self._news = asyncio.Event()
        self._diagnosed = diagnosed
        """Set once the first round is over."""
        shown = store.snapshot.sections[SECTION].rope
        self._put: dict[str, Finding] = {one.entity.key: one.entity for one in shown}
        """At first those of a run that crashed: what lasts stays raised, the rest is removed."""
        self._count = 0
        """Findings, shown or not."""
        self._statuses: dict[str, str] = {}
        self._stirred = bool(self._put)
        """Whether a case has changed since findings were put."""
        self._looked_again = 0.0
        self._view = View(store.snapshot, indexes(), Trends())

    async def run(self) -> None:
        """Diagnose until cancelled."""
        self._store.watchers.append(self._published)
        try:
            for section, shown in self._store.snapshot.sections.items():
                if section != SECTION:
                    self._changed |= dict.fromkeys((section, one) for one in shown.rope.every_key())
            while True:
                await self._round()
                self._confirm()
                self._diagnosed.set()
                await self._rest()
        finally:
            self._store.watchers.remove(self._published)

    def _published(self, publication: Publication) -> None:
        for section, keys in publication.changed.items():
            if section != SECTION:
                self._changed |= dict.fromkeys((section, one) for one in keys)
        if self._changed and self._clock.monotonic() >= self._not_before:
            self._news.set()

    def _confirm(self) -> None:
        if self._count > MAX_FINDINGS:
            message = f"{self._count} findings, the {MAX_FINDINGS} worst are shown"
            self._output.confirm(reason="LimitReached", message=message)
        else:
            self._output.confirm()

    async def _rest(self) -> None:
        """Wait for a publication, the end of a hold, or the next look at trends."""
        now = self._clock.monotonic()
        if self._changed and now >= self._not_before:
            return
        timers = [self._clock.call_later(max(0.0, self._next_due() - now), self._news.set)]
        if now < self._not_before:
            timers.append(self._clock.call_later(self._not_before - now, self._look_for_news))
        await self._news.wait()
        for timer in timers:
            timer.cancel()
        self._news.clear()

    def _look_for_news(self) -> None:
        if self._changed:
            self._news.set()

    def _next_due(self) -> float:
        now = self._clock.monotonic()
        due = [at for case in self._cases.values() if (at := self._due(case)) is not None]
        if self._cases or self._view.trends.moving:
            due.append(max(self._looked_again + EVERY_SECONDS, self._not_before))
        return min([*due, now + CONFIRM_SECONDS])

    def _due(self, case: Case) -> float | None:
        """When its hold, or its going, is over; None: neither goes on."""
        if case.gone is not None:
            return case.gone + case.rule.clear_seconds
        return case.first + case.rule.hold_seconds if case.raised_at is None else None

    async def _round(self) -> None:
        """Evaluate what has changed, then conclude.

        A round that took long is followed by a long rest: of a core it takes 2 %, and what changes
        again and again meanwhile is evaluated once. Holds end on time all the same.
        """
        now = self._clock.monotonic()
        self._cost = 0.0
        if now >= self._not_before:
            self._look_again(now)
            changed, self._changed = self._changed, {}
            await self._sliced(self._show(changed))
        else:
            self._hurry(now)
        await self._sliced(self._evaluate_all())
        self._settle()
        statuses = {name: source.status for name, source in self._store.sources.items()}
        if self._stirred or statuses != self._statuses:
            self._statuses = statuses  # a finding names the sources that are out of sight
            self._stirred = False
            await self._sliced(self._conclude())
        rest = min(COST_TO_REST * self._cost, MAX_REST_SECONDS)
        self._not_before = max(self._not_before, self._clock.monotonic() + rest)

    async def _sliced(self, steps: Iterator[None]) -> None:
        slices = sliced(steps)
        while True:
            start = time.thread_time()
            is_over = next(slices, DONE) is DONE
            self._cost += time.thread_time() - start
            if is_over:
                return
            await asyncio.sleep(0)

    def _show(self, changed: Iterable[Ref]) -> Iterator[None]:
        for refs in self._view.show(self._store.snapshot, changed):
            self._dirty |= dict.fromkeys(refs)
            yield

    def _look_again(self, now: float) -> None:
        """Some symptoms come and go with time alone."""
        if now - self._looked_again >= EVERY_SECONDS:
            self._looked_again = now
            for case in self._cases.values():
                self._dirty |= dict.fromkeys(case.shown)
            self._dirty |= dict.fromkeys(self._view.trends.moving)

    def _hurry(self, now: float) -> None:
        """Whose hold is over is looked at now, so that nothing is raised that is gone."""
        for case in self._cases.values():
            due = self._due(case)
            if due is not None and due <= now:
                late = [ref for ref in case.shown if ref in self._changed]
                for ref in late:
                    del self._changed[ref]
                for _ in self._show(late):
                    pass

    # symptoms

    def _evaluate_all(self) -> Iterator[None]:
        while self._dirty:
            ref = next(iter(self._dirty))
            del self._dirty[ref]
            self._evaluate(ref)
            yield

    def _evaluate(self, ref: Ref) -> None:
        self._view.now, self._view.monotonic = self._clock.now(), self._clock.monotonic()
        entity = self._view.evaluate(ref)
        found: dict[tuple[str, ...], tuple[Rule, Symptom]] = {}
        if entity is not None and self._is_believed(ref[0], entity):
            for rule in self._rules.get(ref[0], ()):
                for symptom in self._symptoms(rule, entity):
                    found.setdefault(symptom.id, (rule, symptom))
        self._view.evaluated()
        for id in self._by_ref.pop(ref, set()) - found.keys():
            self._withdraw(id, ref)
        for id, (rule, symptom) in found.items():
            self._enter(id, rule, ref, symptom)
        if found:
            self._by_ref[ref] = {*found}

    def _symptoms(self, rule: Rule, entity: Any) -> list[Symptom]:
        try:
            return [
                symptom
                for symptom in rule.find(entity, self._view)
                if not any(one.covers(symptom) for one in self._settings.ignore)
            ]
        except Exception as error:  # one rule hurts neither the others nor the source
            logger.opt(exception=error).error("rule {} failed", rule.name)
            return []

    def _is_believed(self, section: str, entity: Any) -> bool:
        """Whether a source that shows the entity sees it now."""
        if section == "sources":
            return True
        names = entity.sources if section == "agents" else (entity.source,)
        rows = [self._view.get("sources", name) for name in names]
        return any(row is not None and row.status in SEEN for row in rows)

    # cases

    def _enter(self, id: tuple[str, ...], rule: Rule, ref: Ref, symptom: Symptom) -> None:
        now = self._clock.monotonic()
        case = self._cases.get(id)
        if case is None:
            known = self._put.get(_name(symptom))
            raised_at = known.raised_at if known else None
            case = self._cases[id] = Case(rule, now, symptom, {}, raised_at=raised_at)
        elif case.raised_at is None and _token(case, ref) != symptom.token:
            case.first = now
        is_same = case.shown.get(ref) == symptom and case.gone is None
        case.shown[ref] = symptom
        case.gone = None
        if not is_same or self._is_outdated(case.symptom):
            self._stirred = True
        if symptom.since and (case.since is None or symptom.since < case.since):
            case.since = symptom.since

    def _is_outdated(self, symptom: Symptom) -> bool:
        """Return whether the symptom's finding, if it has one, quotes values that have changed."""
        finding = self._put.get(_name(symptom))
        if finding is None:
            return False
        return self._evidence(symptom)[: len(finding.evidence)] != finding.evidence

    def _withdraw(self, id: tuple[str, ...], ref: Ref) -> None:
        case = self._cases.get(id)
        if case is None:
            return
        case.last = case.shown.pop(ref, case.last)
        self._stirred = True
        if not case.shown:
            case.gone = self._clock.monotonic()

    def _settle(self) -> None:
        """Raise the cases whose hold is over, end those that have been gone for long enough."""
        now = self._clock.monotonic()
        for id, case in list(self._cases.items()):
            due = self._due(case)
            if due is None or now < due:
                continue
            if case.gone is not None:
                del self._cases[id]
            else:
                case.raised_at = self._clock.now()
            self._stirred = True

    # findings

    def _conclude(self) -> Iterator[None]:
        """Put the roots, without their effects, and remove what is over."""
        found = []
        now = self._clock.monotonic()
        reduced = {id: _reduced(one, now) for id, one in self._cases.items()}
        for id, effects in causes.roots(reduced).items():
            if self._cases[id].raised_at is not None:
                found.append((id, [one for one in effects if self._is_listed(self._cases[one])]))
            yield
        found.sort(key=lambda one: self._order(*one))
        shown: dict[str, Finding] = {}
        for rank, (id, effects) in enumerate(found[:MAX_FINDINGS], 1):
            finding = self._finding(self._cases[id], effects, rank)
            shown[finding.key] = finding
            yield
        for name in self._put.keys() - shown.keys():
            self._output.remove(SECTION, name)
        for name, finding in shown.items():
            if self._put.get(name) != finding:
                self._output.put(SECTION, name, name, finding)
        self._put = shown
        self._count = len(found)

    def _is_listed(self, case: Case) -> bool:
        return case.raised_at is not None and not case.symptom.is_group

    def _order(self, id: tuple[str, ...], effects: Sequence[Any]) -> tuple[Any, ...]:
        """Rank: trouble of the observer, severity, number of effects, age."""
        case = self._cases[id]
        severity = SEVERITIES.index(_severity(case))
        is_blind = case.symptom.section == "sources" and severity < 2
        return not is_blind, severity, -len(effects), case.since or case.raised_at, id

    def _finding(self, case: Case, effects: Sequence[tuple[str, ...]], rank: int) -> Finding:
        symptom = case.symptom
        name = _name(symptom)
        old = self._put.get(name)
        evidence = self._evidence(symptom) if case.shown or old is None else None
        listed = sorted(effects, key=lambda id: self._order(id, ()))
        snapshot = self._view.snapshot
        finding = Finding(
            key=name,
            rule=case.rule.name,
            severity=_severity(case),
            basis=symptom.basis,
            rank=rank,
            root=Root(symptom.section, symptom.key, symptom.path, symptom.kind, symptom.name),
            summary=symptom.summary[:MAX_SUMMARY]
            if evidence is not None or not old
            else old.summary,
            since=case.since or case.raised_at,
            raised_at=case.raised_at,
            evidence=old.evidence if evidence is None and old else evidence or [],
            effects=[self._effect(self._cases[id]) for id in listed[:MAX_EFFECTS]],
            effect_count=len(effects),
            unchecked=self._unchecked(case.rule),
            observed_at=f"{snapshot.epoch}.{snapshot.change.revision}",
            runbook=f"docs/findings.md#{case.rule.name.lower()}",
        )
        if (
            old
            and msgspec.structs.replace(
                finding, observed_at=old.observed_at, truncated=old.truncated
            )
            == old
        ):
            return old
        return _fitted(finding)

    def _evidence(self, symptom: Symptom) -> list[Evidence]:
        """The fields that the symptom names, as they are in the snapshot."""
        found = []
        for place in symptom.evidence:
            entity = self._view.get(place.section, place.key)
            value = value_at(entity, place.path) if entity is not None else MISSING
            if value is not MISSING and value is not None:
                found.append(Evidence(place.section, place.key, place.path, value))
        return found[:MAX_EVIDENCE]

    def _effect(self, case: Case) -> Effect:
        symptom = case.symptom
        return Effect(
            case.rule.name, symptom.section, symptom.key, symptom.path, case.since or case.raised_at
        )

    def _unchecked(self, rule: Rule) -> list[str]:
        """Sources of sections that the rule asks, and that are out of sight."""
        collectors = {name for section in rule.asks for name in OBSERVED_BY.get(section, ())}
        rows = [source.row() for source in self._store.sources.values()]
        blind = [row for row in rows if row.collector in collectors and row.status not in SEEN]
        return sorted(row.key for row in blind)


def _by_section(rules: Mapping[str, Rule], settings: FindingsSettings) -> dict[str, list[Rule]]:
    """The rules that are on, with their settings."""
    found: dict[str, list[Rule]] = {}
    for rule in rules.values():
        own = settings.rules.get(rule.name)
        if own != "off":
            found.setdefault(rule.section, []).append(_set(rule, own) if own else rule)
    return found


def _set(rule: Rule, own: RuleSettings) -> Rule:
    given = {
        name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not None
    }
    return rule._replace(**given)


def _token(case: Case, ref: Ref) -> Any:
    """The token that its hold began with."""
    return (case.shown.get(ref) or case.symptom).token


def _severity(case: Case) -> str:
    return case.symptom.severity or case.rule.severity


def _name(symptom: Symptom) -> str:
    """The finding's key: the rule, and what has it."""
    if symptom.kind is not None:
        return key.join(symptom.rule, symptom.kind, symptom.name)
    path = [symptom.path] if symptom.path else []
    return key.join(symptom.rule, symptom.section, symptom.key, *path)


def _reduced(case: Case, now: float) -> causes.Case:
    """A case that will soon be raised explains others already, so that no effect is shown first."""
    left = 0.0 if case.raised_at else case.first + case.rule.hold_seconds - now
    symptoms: Iterable[Symptom] = case.shown.values() or (case.symptom,)
    return causes.Case(
        (case.symptom.section, case.symptom.key),
        case.since,
        frozenset(node for one in symptoms for node in one.provides if left <= SOON_SECONDS),
        frozenset(node for one in symptoms for node in one.depends),
        WEIGHTS.get(case.rule.name, 0),
    )


def _fitted(finding: Finding) -> Finding:
    """Cut its evidence, then its effects, until it is small enough; the count stays."""
    while len(msgspec.json.encode(finding)) > MAX_BYTES:
        if len(finding.evidence) > ENOUGH:
            finding = msgspec.structs.replace(finding, evidence=finding.evidence[:-1])
        elif len(finding.effects) > 1:
            finding = msgspec.structs.replace(finding, effects=finding.effects[:-1])
        else:
            break
    if len(finding.effects) < finding.effect_count:
        return msgspec.structs.replace(finding, truncated={"effects": finding.effect_count})
    return finding
