"""The deployments of one proxy as they are shown: what is configured, seen, counted and left."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import structs

from collectors.litellm import metrics
from collectors.litellm.budgets import Database
from collectors.litellm.evidence import Evidence, Seen, seen
from collectors.litellm.metrics import Page, Series
from collectors.litellm.models import Listed
from collectors.litellm.usage import Usage
from telemetron.clock import Timer
from telemetron.collector import Output
from telemetron.document import ModelDeployment

SECTION = "litellm"
SCOPE = "models"


class Figures(NamedTuple):
    """What the counters say."""

    usage: Usage
    page: Page


class Deployments:
    """Puts each whose part changed; `show_all` after any of the fields was set."""

    def __init__(self, output: Output) -> None:
        self.cooldown_seconds: float | None = None
        """The router's; None: not known."""
        self.figures: Figures | None = None
        """None: not to be had."""
        self.left_by_provider: dict[str, float] = {}
        self.database = Database({}, {})
        self._output = output
        self._clock = output.clock
        self._listed: dict[str, Listed] = {}
        self._alike: Counter[str | None] = Counter()
        """How many have this upstream model."""
        self._evidence: dict[str, Evidence] = {}
        self._shown: dict[str, ModelDeployment] = {}
        self._timers: dict[str, Timer] = {}

    def close(self) -> None:
        """No timer is left behind."""
        for timer in self._timers.values():
            timer.cancel()

    def list(self, listed: dict[str, Listed]) -> None:
        """These there are, by id."""
        for gone in self._shown.keys() - listed.keys():
            self._forget(gone)
        self._listed = listed
        self._alike = Counter(one.part.upstream_model for one in listed.values())
        self.show_all()

    def note(self, rises: dict[Series, float], page: Page, last_look: float) -> None:
        """What rose since the last look (monotonic) is evidence."""
        grouped: dict[str, list[tuple[Series, float]]] = {}
        for series, rise in rises.items():
            if series.kind in metrics.EVIDENCE and series.of in self._listed:
                grouped.setdefault(series.of, []).append((series, rise))
        self.happened(
            ((id, seen(rose, self._state(id, page))) for id, rose in grouped.items()), last_look
        )

    def happened(self, found: Iterable[tuple[str, Seen]], last_look: float) -> None:
        """This was seen of these."""
        now, at = self._clock.monotonic(), self._clock.now()
        for id, one in found:
            if id not in self._listed:
                continue
            evidence = self._evidence_of(id, at)
            evidence.note(one, now, at)
            if one.cooldown:
                evidence.cool(self._cooldown_seconds_of(id), last_look, now, at)
                self._end_in_time(id, evidence, now)

    def show_all(self) -> None:
        now, at = self._clock.monotonic(), self._clock.now()
        for id in self._listed:
            self._show(id, now, at)

    def _cooldown_seconds_of(self, id: str) -> float | None:
        own = self._listed[id].cooldown_seconds
        return self.cooldown_seconds if own is None else own

    def _end_in_time(self, id: str, evidence: Evidence, now: float) -> None:
        """A timer, not the next look, says that the cooldown may be over."""
        if timer := self._timers.pop(id, None):
            timer.cancel()
        if cooling := evidence.cooling:
            self._timers[id] = self._clock.call_later(cooling.sure_until - now, self._show_now, id)

    def _state(self, id: str, page: Page) -> float | None:
        """The proxy's own gauge. A cooldown writes it under the group's name, where it sticks."""
        states = page.states.get(id, {})
        group = self._listed[id].part.model
        own = [state for name, state in states.items() if name != group or len(states) == 1]
        return own[0] if len(own) == 1 else None

    def _forget(self, id: str) -> None:
        self._output.remove(SECTION, id)
        del self._shown[id]
        self._evidence.pop(id, None)
        if timer := self._timers.pop(id, None):
            timer.cancel()

    def _show_now(self, id: str) -> None:
        self._show(id, self._clock.monotonic(), self._clock.now())

    def _show(self, id: str, now: float, at: datetime) -> None:
        """Put it, unless nothing moved: then the older measurement still says it."""
        old = self._shown.get(id)
        part = self._part(id, now, at, old.measured_at if old else None)
        if part == old:
            return
        if self.figures:
            part = structs.replace(part, measured_at=at)
        self._shown[id] = part
        self._output.put(SECTION, id, id, part, scope=SCOPE)

    def _evidence_of(self, id: str, at: datetime) -> Evidence:
        if id not in self._evidence:
            self._evidence[id] = Evidence(at)
        return self._evidence[id]

    def _part(
        self, id: str, now: float, at: datetime, measured_at: datetime | None
    ) -> ModelDeployment:
        part, evidence = self._listed[id].part, self._evidence_of(id, at)
        evidence.judge(now, at)
        return structs.replace(
            part,
            status=evidence.status,
            status_since=evidence.since,
            cooldown_until=evidence.cooling.until if evidence.cooling else None,
            cooldowns=evidence.cooldowns,
            last_error=evidence.last_error,
            credits=self._credits(part),
            measured_at=measured_at if self.figures else None,
            **self._measures(part),
        )

    def _credits(self, part: ModelDeployment) -> float | None:
        """Of its provider's budget; where that has none, of those of the keys and teams."""
        left = self.left_by_provider.get(part.provider or "")
        return self.database.left.get(part.model) if left is None else left

    def _measures(self, part: ModelDeployment) -> dict[str, Any]:
        if self.figures is None:
            return {"spend": self._spent_today(part)}
        page, rise = self.figures.page, self.figures.usage.rise
        answered = rise(metrics.ANSWERED, part.id)
        latency = rise(metrics.LATENCY, part.id)
        return {
            "rpm": rise(metrics.REQUESTS, part.id),
            "tpm": rise(metrics.TOKENS, part.id),
            "failed_rpm": rise(metrics.FAILURES, part.id),
            "refused_rpm": rise(metrics.REFUSED, part.model),
            "latency_seconds": round((latency or 0.0) / answered, 3) if answered else None,
            "spend": round(page.counters.get(Series(metrics.SPEND, part.id), 0.0), 9),
        }

    def _spent_today(self, part: ModelDeployment) -> float | None:
        """What the database says, where the upstream model is this deployment's alone."""
        spent, model = self.database.spent, part.upstream_model
        names = {f"{model}", f"{part.provider}/{model}"} & spent.keys()
        if not names or self._alike[model] > 1:
            return None
        return round(sum(spent[name] for name in names), 9)
