"""Conclusions: from cases to the findings that are shown."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from math import inf
from operator import attrgetter
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from telemetron.collector import Output
from telemetron.diagnosis.agenda import Agenda
from telemetron.diagnosis.cases import Case, reduced
from telemetron.diagnosis.causes import Causes, Id, Steps
from telemetron.diagnosis.evidence import MISSING, time_at, value_at
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import MAX_EFFECTS, MAX_EVIDENCE, Effect, Evidence, Finding, Root

SECTION = "findings"
MAX_FINDINGS = 200
MAX_BYTES = 1_450
"""Of a finding before `updated_at` and `truncated` are filled in: then it is at most 1.5 KB."""
MAX_SUMMARY, SHORT_SUMMARY = 300, 100
ENOUGH = 2
"""Pieces of evidence that are left while there are effects to cut."""


class RootCase(Struct):
    """A case that no other explains, and that is raised."""

    case: Case
    effects: list[Case]
    order: tuple[Any, ...]
    is_told: bool = False
    """Whether its finding, if it is shown, says all this already."""


class Conclusions:
    """The findings as they were put last."""

    def __init__(
        self,
        output: Output,
        view: View,
        unchecked: Callable[[Rule], list[str]],
        shown: Mapping[str, Finding],
    ) -> None:
        self._output = output
        self._view = view
        self._unchecked = unchecked
        self.shown = dict(shown)
        """By key; at first those of a run that crashed."""
        self._next = self.shown
        self._cases: dict[Id, Case] = {}
        self._ids: dict[str, Id] = {}
        """Of the cases, by the keys of their findings."""
        self._changed: dict[Id, Case | None] = {}
        self._soon: Agenda[Id] = Agenda()
        """When cases that are not raised yet begin to explain others."""
        self._causes = Causes()
        self._roots: dict[Id, RootCase] = {}
        self.is_stirred = bool(shown)
        """Whether an update would find anything new."""

    @property
    def count(self) -> int:
        """All findings, shown or not."""
        return len(self._roots)

    def change(self, id: Id, case: Case | None) -> None:
        """Note that a case is new, has changed, or is over."""
        self._changed[id] = case
        self.is_stirred = True

    def tell_again(self) -> None:
        """Write all findings again in the next update: another source is out of sight."""
        for root in self._roots.values():
            root.is_told = False
        self.is_stirred = True

    def update(self, now: float) -> Steps[None]:
        """Find the roots with their effects, for `put`; yield between steps.

        Only where cases have changed, and among the cases that edges join with them.
        """
        self.is_stirred = False
        for id in self._soon.take(now):
            self._changed.setdefault(id, self._cases[id])
        changed, self._changed = self._changed, {}
        for id, case in changed.items():
            self._enter(id, case, now)
            yield
        for id in (yield from self._causes.update()):
            self._roots.pop(id, None)
            if id in self._causes.roots and self._cases[id].raised_at is not None:
                self._roots[id] = self._root(id)
            yield
        worst = heapq.nsmallest(MAX_FINDINGS, self._roots.values(), key=attrgetter("order"))
        shown: dict[str, Finding] = {}
        for rank, root in enumerate(worst, 1):
            shown[root.case.name] = self._told(root, rank)
            yield
        self._next = shown

    def _enter(self, id: Id, case: Case | None, now: float) -> None:
        if case is None:
            if old := self._cases.pop(id, None):
                del self._ids[old.name]
            self._soon.set(id, inf)
            self._causes.set(id, None)
        else:
            self._cases[id], self._ids[case.name] = case, id
            is_early = case.raised_at is None and case.soon > now
            self._soon.set(id, case.soon if is_early else inf)
            self._causes.set(id, reduced(case, now, case.name in self.shown))

    def _root(self, id: Id) -> RootCase:
        case = self._cases[id]
        below = (self._cases[one] for one in self._causes.roots[id])
        effects = [one for one in below if one.is_effect]
        return RootCase(case, effects, case.order(effects))

    def _told(self, root: RootCase, rank: int) -> Finding:
        old = self._next.get(root.case.name)
        if old is None or not root.is_told:
            root.is_told = True
            return self._finding(root.case, root.effects, rank)
        return old if old.rank == rank else replace(old, rank=rank)

    def is_outdated(self, case: Case) -> bool:
        """Return whether the case's finding, if it has one, quotes values that have changed."""
        finding = self.shown.get(case.name)
        if finding is None:
            return False
        return self._evidence(case.symptom)[: len(finding.evidence)] != finding.evidence

    def put(self) -> None:
        """Put the findings that have changed and remove those that are over, all at once.

        It takes 20 us for each: all of them are no more than a slice.
        """
        old, new = self.shown, self._next
        self.shown = new
        for key in old.keys() ^ new.keys():
            if (id := self._ids.get(key)) is not None:
                self._changed[id] = self._cases[id]
        _log(old, new)
        for key in old.keys() - new.keys():
            self._output.remove(SECTION, key)
        for key, finding in new.items():
            if old.get(key) is not finding:
                self._output.put(SECTION, key, key, finding)

    def _finding(self, case: Case, effects: Sequence[Case], rank: int) -> Finding:
        symptom, key = case.symptom, case.name
        old = self.shown.get(key)
        kept = old if old and not case.shown else None
        """Of a case that is going: its evidence has changed already."""
        snapshot = self._view.snapshot
        listed = heapq.nsmallest(MAX_EFFECTS, effects, key=Case.order)
        finding = Finding(
            key=key,
            rule=case.rule.name,
            severity=case.severity(effects),
            basis=symptom.basis,
            rank=rank,
            root=Root(symptom.section, symptom.key, symptom.path, symptom.kind, symptom.name),
            summary=kept.summary if kept else symptom.summary[:MAX_SUMMARY],
            since=case.since,
            raised_at=case.raised_at,
            evidence=kept.evidence if kept else self._evidence(symptom),
            effects=[_effect(one) for one in listed],
            effect_count=len(effects),
            unchecked=self._unchecked(case.rule),
            observed_at=f"{snapshot.epoch}.{snapshot.change.revision}",
            runbook=f"docs/findings.md#{case.rule.name.lower()}",
        )
        fitted = _fitted(finding, len(finding.evidence))
        same = old and replace(fitted, observed_at=old.observed_at) == old
        return old if same and old else fitted

    def _evidence(self, symptom: Symptom) -> list[Evidence]:
        """The fields that the symptom names, as they are in the snapshot.

        After the first, those whose text the summary has already are left out.
        """
        found = []
        for place in symptom.evidence:
            fragment = self._view.fragment(place.section, place.key)
            value = value_at(fragment.entity, place.path) if fragment else MISSING
            if fragment and value is not MISSING and value is not None:
                at = time_at(fragment, place.path)
                found.append(Evidence(place.section, place.key, place.path, value, at))
        more = [one for one in found[1:] if not _has(symptom.summary[:MAX_SUMMARY], one.value)]
        return [*found[:1], *more][:MAX_EVIDENCE]


def _has(summary: str, value: object) -> bool:
    """Whether the summary quotes this text as whole words; a number in it may be another one."""
    if not isinstance(value, str):
        return False
    start = summary.find(value)
    while start >= 0:
        around = summary[max(0, start - 1) : start] + summary[start + len(value) :][:1]
        if not any(one.isalnum() or one == "_" for one in around):
            return True
        start = summary.find(value, start + 1)
    return False


def _log(old: Mapping[str, Finding], new: Mapping[str, Finding]) -> None:
    """Log each finding that is raised or that ends."""
    for key in old.keys() - new.keys():
        logger.bind(rule=old[key].rule, key=key).info("finding {} ended", key)
    for key in new.keys() - old.keys():
        one = new[key]
        log = logger.bind(rule=one.rule, key=key, severity=one.severity)
        log.info("finding {} raised: {}", key, one.summary)


def _effect(case: Case) -> Effect:
    symptom = case.symptom
    return Effect(case.rule.name, symptom.section, symptom.key, symptom.path, case.since)


def _fitted(finding: Finding, evidence_count: int) -> Finding:
    """Cut evidence, effects and the summary until it is small enough; the counts stay."""
    while _size(finding) > MAX_BYTES:
        evidence, effects = finding.evidence, finding.effects
        if len(evidence) > ENOUGH or (evidence and not effects and _is_short(finding)):
            finding = replace(finding, evidence=evidence[:-1])
        elif len(effects) > 1 or (effects and _is_short(finding)):
            finding = replace(finding, effects=effects[:-1])
        elif not _is_short(finding):
            finding = replace(finding, summary=finding.summary[: SHORT_SUMMARY - 1] + "…")
        else:
            break  # its own names are too long
    cut = {"effects": finding.effect_count} if len(finding.effects) < finding.effect_count else {}
    if len(finding.evidence) < evidence_count:
        cut["evidence"] = evidence_count
    return replace(finding, truncated=cut) if cut else finding


def _size(finding: Finding) -> int:
    """As if it had the last rank: another rank changes nothing else."""
    longest, own = len(str(MAX_FINDINGS)), len(str(finding.rank))
    return len(msgspec.json.encode(finding)) + longest - own


def _is_short(finding: Finding) -> bool:
    return len(finding.summary) <= SHORT_SUMMARY
