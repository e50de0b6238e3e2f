"""Diagnosis: from publications to findings.

It evaluates the rules of each entity that changed, keeps every symptom as a case until its hold is
over, explains cases by each other, and puts the roots into the section `findings`.
"""

import asyncio
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
from telemetron.document import Effect, Evidence, Finding, Root
from telemetron.store.store import Publication, Store, sliced

SECTION = "findings"
MAX_FINDINGS = 200
MAX_EVIDENCE = 8
MAX_EFFECTS = 16
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
    ) -> None:
        self._store = store
        self._output = output
        self._clock = output.clock
        self._settings = settings
        self._rules = _by_section(rules, settings)
        self._cases: dict[tuple[str, ...], Case] = {}
        self._by_ref: dict[Ref, set[tuple[str, ...]]] = {}
        self._dirty: dict[Ref, None] = {}
        self._news = asyncio.Event()
        self._put: dict[str, Finding] = {}
        self._count = 0
        """Findings, shown or not."""
        self._stirred = False
        """Whether a case has changed since findings were put."""
        self._looked_again = 0.0
        self._view = View(store.snapshot, indexes(), Trends())

    async def run(self) -> None:
        """Diagnose until cancelled."""
        self._store.watchers.append(self._published)
        try:
            self._dirty |= dict.fromkeys(ref for ref in self._view.fill() if ref[0] != SECTION)
            while True:
                await self._round()
                self._confirm()
                await self._rest()
        finally:
            self._store.watchers.remove(self._published)

    def _published(self, publication: Publication) -> None:
        for ref in self._view.update(publication):
            if ref[0] != SECTION:
                self._dirty[ref] = None
        if self._dirty:
            self._news.set()

    def _confirm(self) -> None:
        if self._count > MAX_FINDINGS:
            message = f"{self._count} findings, the {MAX_FINDINGS} worst are shown"
            self._output.confirm(reason="LimitReached", message=message)
        else:
            self._output.confirm()

    async def _rest(self) -> None:
        """Wait for a publication, the end of a hold, or the next look at trends."""
        wait = max(0.0, self._next_due() - self._clock.monotonic())
        timer = self._clock.call_later(wait, self._news.set)
        await self._news.wait()
        timer.cancel()
        self._news.clear()

    def _next_due(self) -> float:
        now = self._clock.monotonic()
        due = [self._due(case) for case in self._cases.values()]
        soonest = min((at for at in due if at is not None), default=now + 10.0)
        again = (
            self._looked_again + EVERY_SECONDS
            if self._cases or self._view.trends.moving
            else now + 10.0
        )
        return min(soonest, again, now + 10.0)

    def _due(self, case: Case) -> float | None:
        """When its hold, or its going, is over; None: neither goes on."""
        if case.gone is not None:
            return case.gone + case.rule.clear_seconds
        return case.first + case.rule.hold_seconds if case.raised_at is None else None

    async def _round(self) -> None:
        """Evaluate all that has changed, then conclude."""
        self._look_again()
        for _ in sliced(self._evaluate_all()):
            await asyncio.sleep(0)
        self._settle()
        if self._stirred:
            self._stirred = False
            for _ in sliced(self._conclude()):
                await asyncio.sleep(0)

    def _look_again(self) -> None:
        """Some symptoms come and go with time alone."""
        now = self._clock.monotonic()
        if now - self._looked_again >= EVERY_SECONDS:
            self._looked_again = now
            for case in self._cases.values():
                self._dirty |= dict.fromkeys(case.shown)
            self._dirty |= dict.fromkeys(self._view.trends.moving)

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
                    found.setdefault(symptom.id, (self._own(rule, symptom), symptom))
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

    def _own(self, rule: Rule, symptom: Symptom) -> Rule:
        """The rule of a symptom that another rule has found."""
        if symptom.rule == rule.name:
            return rule
        rules = self._rules.get(rule.section, ())
        return next((one for one in rules if one.name == symptom.rule), rule)

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
            case = self._cases[id] = Case(rule, now, symptom, {})
        elif case.raised_at is None and case.shown.get(ref, symptom).token != symptom.token:
            case.first = now
        if case.shown.get(ref) != symptom or case.gone is not None:
            self._stirred = True
        case.shown[ref] = symptom
        case.gone = None
        if symptom.since and (case.since is None or symptom.since < case.since):
            case.since = symptom.since

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
        for id, effects in causes.roots(
            {id: _reduced(one) for id, one in self._cases.items()}
        ).items():
            if self._cases[id].raised_at is not None:
                found.append((id, [one for one in effects if self._cases[one].raised_at]))
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


def _severity(case: Case) -> str:
    return case.symptom.severity or case.rule.severity


def _name(symptom: Symptom) -> str:
    """The finding's key: the rule, and what has it."""
    if symptom.kind is not None:
        return key.join(symptom.rule, symptom.kind, symptom.name)
    path = [symptom.path] if symptom.path else []
    return key.join(symptom.rule, symptom.section, symptom.key, *path)


def _reduced(case: Case) -> causes.Case:
    symptoms: Iterable[Symptom] = case.shown.values() or (case.symptom,)
    return causes.Case(
        (case.symptom.section, case.symptom.key),
        case.since,
        frozenset(node for one in symptoms for node in one.provides),
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
