"""The published deployments of one proxy: configuration, status, measures and budgets."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import structs

from telemetron.clock import Timer
from telemetron.collector import Output
from telemetron.document import Cooldowns, ModelDeployment, Problem
from telemetron.reason import REASONS
from telemetron_collectors.litellm import metrics
from telemetron_collectors.litellm.budgets import Database
from telemetron_collectors.litellm.evidence import Evidence, Observation, observe
from telemetron_collectors.litellm.fault import is_refused_caller
from telemetron_collectors.litellm.measures import Measures
from telemetron_collectors.litellm.metrics import MetricsPage, Series
from telemetron_collectors.litellm.models import Listed, Names

SECTION = "litellm"
SCOPE = "models"


class Due(NamedTuple):
    """The monotonic time at which a status may change without an observation, and its timer."""

    at: float
    timer: Timer


class Deployments:
    """Publishes each deployment that changed; call `publish_all` after setting a field."""

    def __init__(self, output: Output, max_age_seconds: float) -> None:
        self.cooldown_seconds: float | None = None
        """The router's cooldown time; None if it is not known."""
        self.measures: Measures | None = None
        """None if the metrics cannot be used."""
        self.left_by_provider: dict[str, float] = {}
        self.database = Database({}, {})
        self.names = Names((), {})
        self.listed: dict[str, Listed] = {}
        """What `set_listed` set."""
        self._output = output
        self._clock = output.clock
        self._max_age = max_age_seconds
        self._measured_at: datetime | None = None
        self._recent_until = 0.0
        """Until when the observations are recent enough, monotonic."""
        self._silence: Due | None = None
        self._aliases: Mapping[str, str] = {}
        self._alike: Counter[str | None] = Counter()
        """The number of deployments of each upstream model."""
        self._evidence: dict[str, Evidence] = {}
        self._problems: dict[str, list[Problem]] = {}
        self._published: dict[str, ModelDeployment] = {}
        self._dues: dict[str, Due] = {}

    def close(self) -> None:
        """Cancel all timers."""
        for due in [*self._dues.values(), *filter(None, [self._silence])]:
            due.timer.cancel()

    def set_listed(self, listed: dict[str, Listed], aliases: Mapping[str, str]) -> None:
        """Set the configured deployments, by id; remove all others."""
        if listed == self.listed and aliases == self._aliases:
            return
        for gone in self._published.keys() - listed.keys():
            self._forget(gone)
        self.listed, self._aliases = listed, aliases
        self.names = Names((one.part for one in listed.values()), aliases)
        self._alike = Counter(one.part.upstream_model for one in listed.values())
        self.publish_all()

    def add_measured(
        self, found: Iterable[tuple[str, Observation]], measures: Measures, last_poll: float
    ) -> None:
        """Add what `observations` returned; the time of the last poll is monotonic."""
        self._measured_at = self._clock.now()
        for id in self.listed:
            self._evidence_of(id).sees_successes = measures.sees_successes
        self.add(found, last_poll)

    def observations(
        self, rises: dict[Series, float], measures: Measures
    ) -> list[tuple[str, Observation]]:
        """Interpret the counters that rose since the last poll, by deployment id.

        It changes nothing but `measures`, so a thread may run it: it also computes the measures of
        each deployment, which `publish_all` then finds there.
        """
        grouped: defaultdict[str, dict[Series, float]] = defaultdict(dict)
        for series, rise in rises.items():
            if series.of in self.listed:
                grouped[series.of][series] = rise
        refused = self._refused(rises)
        found = []
        for id, one in self.listed.items():
            measures.of(one.part)
            is_refused = one.part.model in refused
            if id in grouped or is_refused:
                found.append((id, self._observe(id, grouped[id], measures, is_refused)))
        return found

    def add(self, found: Iterable[tuple[str, Observation]], last_poll: float) -> None:
        """Add observations by deployment id."""
        self.note_answer()
        now, at = self._clock.monotonic(), self._clock.now()
        for id, one in found:
            if id not in self.listed:
                continue
            evidence = self._evidence_of(id)
            evidence.add(one, now, at)
            if one.cooldown:
                evidence.cool(self._cooldown_seconds_of(id), last_poll, now, at)

    def note_answer(self) -> None:
        """Note that the proxy answered with the results of its calls."""
        now = self._clock.monotonic()
        self._recent_until = now + self._max_age
        if self._silence is None:
            self._await_silence(now)

    def publish_all(self) -> None:
        now, at = self._clock.monotonic(), self._clock.now()
        for id in self.listed:
            self._publish(id, now, at)

    def _await_silence(self, now: float) -> None:
        """Set the timer after which every status is unknown, even if no poll follows."""
        timer = self._clock.call_later(self._recent_until - now, self._check_silence)
        self._silence = Due(self._recent_until, timer)

    def _check_silence(self) -> None:
        now = self._clock.monotonic()
        self._silence = None
        if now < self._recent_until:
            self._await_silence(now)
        else:
            self.publish_all()

    def _refused(self, rises: dict[Series, float]) -> set[str]:
        """Return the model groups that refused calls without a fault of the caller."""
        return {
            group
            for series in rises
            if series.kind == metrics.REFUSED
            and not is_refused_caller(series.error_class, series.status_code)
            and (group := self.names.group(series.of)) is not None
        }

    def _observe(
        self, id: str, rose: Mapping[Series, float], measures: Measures, is_refused: bool
    ) -> Observation:
        calls = measures.calls(rose)
        # An answer from the cache sets the gauge too, but proves nothing.
        ended_well = not calls.cached and self._state(id, measures.page) == 0
        found = observe(
            rose.items(), succeeded=calls.succeeded, ended_well=ended_well, refused=is_refused
        )
        return found._replace(doubtful=True) if calls.doubtful else found

    def _cooldown_seconds_of(self, id: str) -> float | None:
        own = self.listed[id].cooldown_seconds
        return self.cooldown_seconds if own is None else own

    def _state(self, id: str, page: MetricsPage) -> float | None:
        """Return the proxy's gauge, ignoring the value under the group's name.

        A cooldown sets that value and nothing resets it.
        """
        states = page.states.get(id, {})
        group = self.listed[id].part.model
        own = {state for name, state in states.items() if name != group or len(states) == 1}
        return own.pop() if len(own) == 1 else None

    def _forget(self, id: str) -> None:
        self._output.remove(SECTION, id)
        del self._published[id]
        self._evidence.pop(id, None)
        self._problems.pop(id, None)
        if due := self._dues.pop(id, None):
            due.timer.cancel()

    def _publish_now(self, id: str) -> None:
        del self._dues[id]
        self._publish(id, self._clock.monotonic(), self._clock.now())

    def _publish(self, id: str, now: float, at: datetime) -> None:
        """Publish the deployment if it changed; else keep the time of the older measurement."""
        old = self._published.get(id)
        part = self._part(id, now, at, old.measured_at if old else None)
        self._end_in_time(id, now)
        if part == old:
            return
        if self.measures:
            part = structs.replace(part, measured_at=self._measured_at)
        self._published[id] = part
        self._output.put(SECTION, id, id, part, scope=SCOPE)

    def _end_in_time(self, id: str, now: float) -> None:
        """Set a timer for the next change of the status, so that it does not wait for a poll."""
        next_at, due = self._evidence_of(id).changes_at(now), self._dues.get(id)
        if next_at is None or (due and due.at <= next_at):
            return
        if due:
            due.timer.cancel()
        self._dues[id] = Due(next_at, self._clock.call_later(next_at - now, self._publish_now, id))

    def _evidence_of(self, id: str) -> Evidence:
        if id not in self._evidence:
            self._evidence[id] = Evidence(self._clock.now())
        return self._evidence[id]

    def _part(
        self, id: str, now: float, at: datetime, measured_at: datetime | None
    ) -> ModelDeployment:
        part, evidence = self.listed[id].part, self._evidence_of(id)
        credits, strictly = self._credits(part)
        evidence.note_budget(credits == 0, now)
        is_spent = evidence.is_spent(strictly=strictly)
        evidence.judge(now, at, is_answering=now < self._recent_until, is_spent=is_spent)
        return structs.replace(
            part,
            status=evidence.status,
            status_since=evidence.since,
            cooldown_until=evidence.cooling.until if evidence.cooling else None,
            cooldowns=self._cooldowns(evidence),
            last_error=evidence.last_error,
            credits=credits,
            measured_at=measured_at if self.measures else None,
            problems=self._problems_of(id, evidence, is_spent, now, at),
            **self._measures(part),
        )

    def _cooldowns(self, evidence: Evidence) -> Cooldowns:
        """Return the cooldowns; the count is null if the proxy does not count them."""
        counts = self.measures and self.measures.page.has(metrics.COOLDOWNS)
        if counts or evidence.cooldowns.count:
            return evidence.cooldowns
        return Cooldowns(count=None)

    def _problems_of(
        self, id: str, evidence: Evidence, is_spent: bool, now: float, at: datetime
    ) -> list[Problem]:
        reasons = {"BudgetSpent": is_spent, "CallsRefused": evidence.is_refused(now)}
        known = {one.reason: one for one in self._problems.get(id, ())}
        self._problems[id] = [
            known.get(reason) or Problem(reason, REASONS[reason], at)
            for reason, there in reasons.items()
            if there and evidence.status == "unhealthy"
        ]
        return self._problems[id]

    def _credits(self, part: ModelDeployment) -> tuple[float | None, bool]:
        """Return the rest of the provider's budget, which all calls share, or of keys and teams."""
        left = self.left_by_provider.get(part.provider or "")
        return (self.database.left.get(part.model), False) if left is None else (left, True)

    def _measures(self, part: ModelDeployment) -> dict[str, Any]:
        if self.measures is None:
            return {"spend": self._spent_today(part)}
        measures = self.measures.of(part)
        if measures["spend"] is None:
            return {**measures, "spend": self._spent_today(part)}
        return measures

    def _spent_today(self, part: ModelDeployment) -> float | None:
        """Return the database's spend if no other deployment has the same upstream model."""
        spent, model = self.database.spent, part.upstream_model
        names = {f"{model}", f"{part.provider}/{model}"} & spent.keys()
        if not names or self._alike[model] > 1:
            return None
        return round(sum(spent[name] for name in names), 9)
