"""Diagnosis: from publications to findings.

It evaluates the rules of each entity that changed, keeps every symptom as a case until its hold is
over, explains cases by each other, and puts the roots into the section `findings`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from loguru import logger

from telemetron.collector import Output
from telemetron.diagnosis.causes import Id
from telemetron.diagnosis.conclusions import MAX_FINDINGS, SECTION, Conclusions
from telemetron.diagnosis.holds import Holds
from telemetron.diagnosis.indexes import indexes
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.settings import FindingsSettings, RuleSettings
from telemetron.diagnosis.trend import EVERY_SECONDS, Ref, Trends
from telemetron.diagnosis.view import View
from telemetron.document import Finding
from telemetron.slices import sliced
from telemetron.store.store import Publication, Store

COST_TO_REST = 150
"""A round is followed by a rest, so that changes take 0.7 % of a core, and more only after the
longest rest."""
MAX_REST_SECONDS = 4.9
COST_TO_LOOK = 2_000
"""Symptoms that nothing changes are looked at again; that takes 0.05 % of a core."""
CONFIRM_SECONDS = 10.0
LOG_SECONDS = 60.0
"""A rule that fails is logged so often."""
DONE = object()
SEEN = ("ok", "degraded")
"""Statuses of a source whose section is believed."""
OBSERVED_BY = {
    "agents": ("heartbeats",),
    "workload": ("kubernetes",),
    "queues": ("kafka", "rabbitmq"),
    "litellm": ("litellm",),
}


class Diagnosis:
    """The state of one run."""

    def __init__(
        self,
        store: Store,
        output: Output,
        rules: Mapping[str, Rule],
        settings: FindingsSettings,
        diagnosed: asyncio.Event,
        recalled: Sequence[Finding] = (),
    ) -> None:
        self._store = store
        self._output = output
        self._clock = output.clock
        self._settings = settings
        self._rules = _by_section(rules, settings)
        self._changed: dict[Ref, None] = {}
        """Entities that were published since the last round."""
        self._dirty: dict[Ref, None] = {}
        """Entities that have to be evaluated."""
        self._cost = 0.0
        self._not_before = 0.0
        self._look_again_at = 0.0
        self._log_again_at: dict[str, float] = {}
        """When a failure of a rule is logged again, by the rule's name."""
        self._news = asyncio.Event()
        self._diagnosed = diagnosed
        """Set once the first round is over."""
        self._statuses: dict[str, str] = {}
        self._view = View(store.snapshot, indexes(), Trends())
        shown = store.snapshot.sections[SECTION].rope
        left = {one.entity.key: one.entity for one in shown}
        self._conclusions = Conclusions(output, self._view, self._unchecked, left)
        self._holds = Holds(self._clock, self._conclusions, self._is_early, recalled)

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
        self._look_for_news()

    def _look_for_news(self) -> None:
        if self._has_work and self._clock.monotonic() >= self._not_before:
            self._news.set()

    @property
    def _has_work(self) -> bool:
        return bool(self._changed or self._dirty)

    def _confirm(self) -> None:
        count = self._conclusions.count
        if count > MAX_FINDINGS:
            message = f"{count} findings, the {MAX_FINDINGS} worst are shown"
            self._output.confirm(reason="LimitReached", message=message)
        else:
            self._output.confirm()

    async def _rest(self) -> None:
        """Wait for a publication, the end of a hold, or the next look at symptoms."""
        now = self._clock.monotonic()
        if self._has_work and now >= self._not_before:
            return
        until = min(self._holds.due, now + CONFIRM_SECONDS)
        if self._holds or self._view.trends.moving or self._view.may_change:
            until = min(until, max(self._look_again_at, self._not_before))
        timers = [self._clock.call_later(max(0.0, until - now), self._news.set)]
        if now < self._not_before:
            timers.append(self._clock.call_later(self._not_before - now, self._look_for_news))
        await self._news.wait()
        for timer in timers:
            timer.cancel()
        self._news.clear()

    # rounds

    async def _round(self) -> None:
        """Evaluate what has changed, then conclude.

        A round that took long is followed by a long rest; what changes again and again meanwhile
        is evaluated once. Holds end on time all the same.
        """
        self._cost = 0.0
        if self._clock.monotonic() >= self._not_before:
            await self._look_again()
            await self._sliced(self._show_changed())
            await self._sliced(self._evaluate_all())
        await self._conclude()
        rest = min(COST_TO_REST * self._cost, MAX_REST_SECONDS)
        self._not_before = max(self._not_before, self._clock.monotonic() + rest)

    async def _sliced(self, steps: Iterator[None]) -> None:
        """Do the steps in slices; between two of them, holds may end."""
        for _ in self._timed(steps):
            await asyncio.sleep(0)
            if self._diagnosed.is_set() and self._clock.monotonic() >= self._holds.due:
                await self._conclude()

    async def _conclude(self) -> None:
        """Raise and end what is due, and put the findings if anything has changed."""
        for _ in self._timed(self._hurry()):
            await asyncio.sleep(0)
        self._holds.settle()
        statuses = self._statuses_now()
        if statuses != self._statuses:  # a finding names the sources that are out of sight
            self._statuses = statuses
            self._conclusions.tell_again()
        if self._conclusions.is_stirred:
            for _ in self._timed(self._conclusions.update(self._clock.monotonic())):
                await asyncio.sleep(0)
            self._conclusions.put()

    def _timed(self, steps: Iterator[None]) -> Iterator[None]:
        """Yield between the slices of the steps, and count what they cost."""
        slices = sliced(steps)
        while True:
            start = time.thread_time()
            is_over = next(slices, DONE) is DONE
            self._cost += time.thread_time() - start
            if is_over:
                return
            yield

    def _show_changed(self) -> Iterator[None]:
        changed, self._changed = self._changed, {}
        return self._mark(self._view.show(self._store.snapshot, changed))

    def _mark(self, steps: Iterable[Iterable[Ref]]) -> Iterator[None]:
        """Have the entities of each step evaluated."""
        for refs in steps:
            self._dirty |= dict.fromkeys(refs)
            yield

    async def _look_again(self) -> None:
        """Evaluate symptoms that come and go with time only."""
        if self._clock.monotonic() < self._look_again_at:
            return
        self._dirty |= dict.fromkeys(self._holds.refs)
        self._dirty |= dict.fromkeys(self._view.trends.moving)
        before = self._cost
        await self._sliced(self._mark(self._view.revisited()))
        await self._sliced(self._evaluate_all())
        pause = max(EVERY_SECONDS, COST_TO_LOOK * (self._cost - before))
        self._look_again_at = self._clock.monotonic() + pause

    def _hurry(self) -> Iterator[None]:
        """Look at the entities of due cases now, so that nothing is raised that is gone.

        What has changed is shown first: a rule may read other entities, too.
        """
        if self._clock.monotonic() < self._holds.due and self._statuses == self._statuses_now():
            return
        yield from self._show_changed()
        for ref in self._holds.over():
            if self._dirty.pop(ref, DONE) is None:
                self._evaluate(ref)
                yield

    def _statuses_now(self) -> dict[str, str]:
        return {name: source.status for name, source in self._store.sources.items()}

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
        found: dict[Id, tuple[Rule, Symptom]] = {}
        if entity is None:
            self._holds.forget(ref)
        elif self._is_believed(ref[0], entity):
            self._holds.look(ref)
            for rule in self._rules.get(ref[0], ()):
                try:
                    symptoms = [one.packed for one in rule.find(entity, self._view)]
                except Exception as error:  # one rule hurts neither the others nor the source
                    self._failed(rule, error)
                    continue
                for symptom in symptoms:
                    if not any(one.covers(symptom) for one in self._settings.ignore):
                        found.setdefault(symptom.id, (rule, symptom))
        self._view.evaluated()
        self._holds.see(ref, found)

    def _failed(self, rule: Rule, error: Exception) -> None:
        """Log that a rule failed; it may fail for thousands of entities again and again."""
        now = self._clock.monotonic()
        if now >= self._log_again_at.get(rule.name, 0.0):
            self._log_again_at[rule.name] = now + LOG_SECONDS
            logger.opt(exception=error).error("rule {} failed", rule.name)

    def _is_believed(self, section: str, entity: Any) -> bool:
        """Whether a source that shows the entity sees it now."""
        if section == "sources":
            return True
        names = entity.sources if section == "agents" else (entity.source,)
        rows = [self._view.get("sources", name) for name in names]
        return any(row is not None and row.status in SEEN for row in rows)

    # sources

    def _unchecked(self, rule: Rule) -> list[str]:
        """Sources of sections that the rule asks, and that are out of sight."""
        return sorted(self._sources(rule.asks, lambda status: status not in SEEN))

    def _is_early(self, rule: Rule) -> bool:
        """Whether a source of a section that the rule looks at has not yet seen everything."""
        sections = rule.section, *rule.asks
        return bool(self._sources(sections, lambda status: status == "starting"))

    def _sources(self, sections: Iterable[str], is_meant: Callable[[str], bool]) -> list[str]:
        """The sources that observe these sections, of these statuses."""
        collectors = {name for section in sections for name in OBSERVED_BY.get(section, ())}
        return [
            name
            for name, source in self._store.sources.items()
            if source.collector in collectors and is_meant(source.status)
        ]


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
