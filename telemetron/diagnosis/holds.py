"""Holds: all cases, from the first sight of a symptom until it has been gone for long enough."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from telemetron.clock import Clock
from telemetron.diagnosis.agenda import Agenda
from telemetron.diagnosis.cases import Case, known, name
from telemetron.diagnosis.causes import Id
from telemetron.diagnosis.conclusions import Conclusions
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.trend import Ref
from telemetron.document import Finding

RECALL_SECONDS = 300.0
"""What was found before a restart goes on if its symptom is seen again within this time."""


class Holds:
    """The cases of one run; each change of one is told to the conclusions."""

    def __init__(
        self,
        clock: Clock,
        conclusions: Conclusions,
        is_early: Callable[[Rule], bool],
        recalled: Sequence[Finding],
    ) -> None:
        self._clock = clock
        self._conclusions = conclusions
        self._is_early = is_early
        self._recalled = known(recalled)
        self._recall_until = clock.monotonic() + RECALL_SECONDS
        self._first_looks: dict[Ref, float] = {}
        """When each entity that is there was evaluated first, on a monotonic clock."""
        self._cases: dict[Id, Case] = {}
        self._by_ref: dict[Ref, set[Id]] = {}
        self._agenda: Agenda[Id] = Agenda()
        self._over: dict[Id, None] = {}
        """Cases whose hold or going is over, and that are not raised or ended yet."""

    def __bool__(self) -> bool:
        return bool(self._cases)

    @property
    def due(self) -> float:
        """When the next hold is over; infinity if none goes on."""
        return self._agenda.next

    @property
    def refs(self) -> Iterator[Ref]:
        """All entities that show a symptom."""
        return iter(self._by_ref)

    def look(self, ref: Ref) -> None:
        """Note that an entity is looked at."""
        self._first_looks.setdefault(ref, self._clock.monotonic())

    def forget(self, ref: Ref) -> None:
        """Note that an entity is gone."""
        self._first_looks.pop(ref, None)

    def see(self, ref: Ref, found: Mapping[Id, tuple[Rule, Symptom]]) -> None:
        """Note all symptoms that an entity shows now."""
        for id in self._by_ref.pop(ref, set()) - found.keys():
            self._withdraw(id, ref)
        for id, (rule, symptom) in found.items():
            self._enter(id, rule, ref, symptom)
        if found:
            self._by_ref[ref] = {*found}

    def over(self) -> list[Ref]:
        """Return the entities that show what is now to be raised; they may show it no longer."""
        self._over |= dict.fromkeys(self._agenda.take(self._clock.monotonic()))
        return [*dict.fromkeys(ref for id in self._over for ref in self._cases[id].shown)]

    def settle(self) -> None:
        """Raise the cases whose hold is over, end those that have been gone for long enough."""
        now = self._clock.monotonic()
        self._over |= dict.fromkeys(self._agenda.take(now))
        over, self._over = self._over, {}
        for id in over:
            case = self._cases[id]
            if case.due > now:
                self._agenda.set(id, case.due)
            elif case.gone is not None:
                del self._cases[id]
                self._conclusions.change(id, None)
            elif self._is_early(case.rule):
                self._over[id] = None
            else:
                case.raised_at = case.was_raised_at or self._clock.now()
                self._conclusions.change(id, case)

    def _enter(self, id: Id, rule: Rule, ref: Ref, symptom: Symptom) -> None:
        now = self._clock.monotonic()
        case = self._cases.get(id)
        seen_at = self._seen_at(ref, symptom)
        if case is None:
            case = self._cases[id] = self._new(rule, symptom, seen_at)
        is_news = case.show(ref, symptom, now, seen_at)
        if is_news or (case.symptom is symptom and self._conclusions.is_outdated(case)):
            self._conclusions.change(id, case)
        self._agenda.set(id, case.due)

    def _new(self, rule: Rule, symptom: Symptom, seen_at: datetime | None) -> Case:
        """Return a case that begins now, or goes on from before a crash or a restart."""
        now, key = self._clock.monotonic(), name(symptom)
        if (shown := self._conclusions.shown.get(key)) is not None:
            return Case(rule, now, symptom, {}, shown.since, raised_at=shown.raised_at)
        left = self._recalled.pop(key, None)
        if left is None or now > self._recall_until:
            return Case(rule, now, symptom, {}, seen_at)
        return Case(rule, now, symptom, {}, left.since, was_raised_at=left.raised_at)

    def _seen_at(self, ref: Ref, symptom: Symptom) -> datetime | None:
        """When it began, if it begins now; None if it was there when Telemetron first looked."""
        looked_for = self._clock.monotonic() - self._first_looks[ref]
        if looked_for <= symptom.window_seconds:
            return None
        return symptom.newest or self._clock.now()

    def _withdraw(self, id: Id, ref: Ref) -> None:
        case = self._cases.get(id)
        if case is not None:
            case.withdraw(ref, self._clock.monotonic())
            self._agenda.set(id, case.due)
            self._conclusions.change(id, case)
