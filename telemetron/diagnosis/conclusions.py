"""Conclusions: from cases to the findings that are shown."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from telemetron.collector import Output, Put
from telemetron.diagnosis.cases import Case, Id, name, roots
from telemetron.diagnosis.causes import Steps
from telemetron.diagnosis.evidence import MISSING, time_at, value_at
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import MAX_EFFECTS, MAX_EVIDENCE, Effect, Evidence, Finding, Root

SECTION = "findings"
MAX_FINDINGS = 200
MAX_BYTES = 1_450
"""Of a finding before `updated_at` and `truncated` are filled in: then it is at most 1.5 KB."""
MAX_SUMMARY, SHORT_SUMMARY = 300, 100
FEW = 16
"""Findings that are put in one step."""
ENOUGH = 2
"""Pieces of evidence that are left while there are effects to cut."""


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
        self.count = 0
        """All findings, shown or not."""

    def update(self, cases: Mapping[Id, Case], now: float) -> Steps[None]:
        """Find the roots, without their effects, for `put`; yield between steps."""
        found = []
        for id, effects in (yield from roots(cases, now, self.shown)).items():
            if cases[id].raised_at is not None:
                found.append((cases[id], [cases[one] for one in effects if cases[one].is_effect]))
            yield
        found.sort(key=lambda one: one[0].order(one[1]))
        shown: dict[str, Finding] = {}
        for rank, (case, listed) in enumerate(found[:MAX_FINDINGS], 1):
            shown[case.name] = self._finding(case, listed, rank)
            yield
        self._next = shown
        self.count = len(found)

    def is_outdated(self, symptom: Symptom) -> bool:
        """Return whether the symptom's finding, if it has one, quotes values that have changed."""
        finding = self.shown.get(name(symptom))
        if finding is None:
            return False
        return self._evidence(symptom)[: len(finding.evidence)] != finding.evidence

    async def put(self) -> None:
        """Put the findings that have changed and remove those that are over, all at once.

        Many are put in slices, so that the event loop is not held up.
        """
        old, new = self.shown, self._next
        self.shown = new
        changed = [key for key, finding in new.items() if old.get(key) is not finding]
        if len(changed) > FEW:
            await self._output.replace(Put(SECTION, key, key, new[key]) for key in new)
            return
        for key in old.keys() - new.keys():
            self._output.remove(SECTION, key)
        for key in changed:
            self._output.put(SECTION, key, key, new[key])

    def _finding(self, case: Case, effects: Sequence[Case], rank: int) -> Finding:
        symptom, key = case.symptom, case.name
        old = self.shown.get(key)
        kept = old if old and not case.shown else None
        """Of a case that is going: its evidence has changed already."""
        snapshot = self._view.snapshot
        listed = sorted(effects, key=Case.order)
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
            effects=[_effect(one) for one in listed[:MAX_EFFECTS]],
            effect_count=len(effects),
            unchecked=self._unchecked(case.rule),
            observed_at=f"{snapshot.epoch}.{snapshot.change.revision}",
            runbook=f"docs/findings.md#{case.rule.name.lower()}",
        )
        fitted = _fitted(finding, len(finding.evidence))
        same = old and replace(fitted, observed_at=old.observed_at) == old
        return old if same and old else fitted

    def _evidence(self, symptom: Symptom) -> list[Evidence]:
        """The fields that the symptom names, as they are in the snapshot."""
        found = []
        for place in symptom.evidence:
            fragment = self._view.fragment(place.section, place.key)
            value = value_at(fragment.entity, place.path) if fragment else MISSING
            if fragment and value is not MISSING and value is not None:
                found.append(Evidence(*place, value, time_at(fragment, place.path)))
        return found[:MAX_EVIDENCE]


def _effect(case: Case) -> Effect:
    symptom = case.symptom
    return Effect(case.rule.name, symptom.section, symptom.key, symptom.path, case.since)


def _fitted(finding: Finding, evidence_count: int) -> Finding:
    """Cut evidence, effects and the summary until it is small enough; the counts stay."""
    while len(msgspec.json.encode(finding)) > MAX_BYTES:
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


def _is_short(finding: Finding) -> bool:
    return len(finding.summary) <= SHORT_SUMMARY
