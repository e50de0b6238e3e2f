"""One proxy: its endpoints, and how their answers are used."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.litellm import budgets, metrics
from telemetron_collectors.litellm.client import Client, HttpLimits, RefusalError
from telemetron_collectors.litellm.deployments import Deployments
from telemetron_collectors.litellm.evidence import Observation
from telemetron_collectors.litellm.health import Health
from telemetron_collectors.litellm.measures import Measures
from telemetron_collectors.litellm.metrics import Series
from telemetron_collectors.litellm.models import (
    Listed,
    Row,
    Values,
    is_ambiguous,
    listed,
    parse_models,
    parse_router,
)
from telemetron_collectors.litellm.poller import Poll, Poller
from telemetron_collectors.litellm.unserved import Unserved
from telemetron_collectors.litellm.usage import UsageTracker

# How often each endpoint is polled, in intervals of `interval_seconds`.
METRICS_EVERY = 1
BUDGETS_EVERY = 3
MODELS_EVERY = 6
DATABASE_EVERY = 6
ROUTER_EVERY = 30

HEALTH_TIMEOUT_SECONDS = 120.0
MAX_NAMED = 8
MAX_KEPT_BYTES = 1024 * 1024
MAX_REQUESTED = 100
"""The most deployments that one poll requests by id."""

CALLBACK = 'the proxy has no metrics: set litellm_settings.callbacks: ["prometheus"]'
LICENCE = "this version of the proxy has metrics only with a licence"
SEVERAL = (
    "several processes answer, each with its own counters: configure one source for each replica"
)

T = TypeVar("T")


class ProxyLimits(NamedTuple):
    """Limits of the collector for one proxy."""

    max_deployments: int = 2_000
    max_pages: int = 20
    max_processes: int = 64
    http: HttpLimits = HttpLimits()


LIMITS = ProxyLimits()


class Proxy:
    """Polls one endpoint after the other, updates the deployments and confirms the scopes."""

    def __init__(
        self,
        client: Client,
        output: Output,
        interval: float,
        max_age_seconds: float,
        caller: str | None = None,
        limits: ProxyLimits = LIMITS,
    ) -> None:
        self._client = client
        self._clock = output.clock
        self._interval = interval
        self._caller = caller
        self._limits = limits
        self._poller = Poller(client, output, interval)
        self._deployments = Deployments(output, max_age_seconds)
        self._unserved = Unserved(output)
        self._usage = UsageTracker(3 * interval, limits.max_processes)
        self._polled_at = self._clock.monotonic()
        self._families: dict[float, frozenset[str]] = {}
        """The metrics of the process that answered last, by its start time."""
        self._body: bytes | None = None
        self._page: metrics.MetricsPage | None = None
        """The last page and its bytes: a proxy without calls answers the same again."""
        self._caches: bool | None = None
        self._settings = Values()
        self._has_budgets = False
        self._wildcards: dict[str, Row] = {}
        """The configured row of each deployment that is listed as several rows."""

    async def observe(self, health_every: float | None) -> None:
        """Poll until cancelled."""
        polls = (
            ("router", ROUTER_EVERY, self._poll_router),
            ("models", MODELS_EVERY, self._poll_models),
            ("database", DATABASE_EVERY, self._poll_database),
            ("metrics", METRICS_EVERY, self._poll_metrics),
            ("budgets", BUDGETS_EVERY, self._poll_budgets),
        )
        self._poller.expect(["models", "metrics"])
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._poller.run(
                    [Poll(name, every * self._interval, once) for name, every, once in polls]
                )
            )
            if health_every:
                group.create_task(self._check_health_for_ever(health_every))

    def close(self) -> None:
        """Cancel all timers."""
        self._deployments.close()

    async def _poll_router(self) -> None:
        try:
            self._settings = await self._request("/router/settings", parse_router)
            self._has_budgets = bool(self._settings.provider_budget_config)
        except RefusalError as refusal:
            if refusal.status != 404:
                raise
            # Older versions lack this endpoint; only a request shows whether there are budgets.
            self._settings, self._has_budgets = Values(), await self._finds_budgets()
        self._deployments.cooldown_seconds = metrics.finite(self._settings.cooldown_time)
        self._poller.expect(["budgets"], self._has_budgets)

    async def _finds_budgets(self) -> bool:
        try:
            return bool(await self._request("/provider/budgets", budgets.parse_budgets))
        except RefusalError:
            return False

    async def _poll_models(self) -> None:
        rows = await self._request("/model/info", parse_models)
        kept = dict(sorted(rows.by_id.items())[: self._limits.max_deployments])
        known = self._poller.first_note()
        if rows.malformed:
            known = TroubleError("BadAnswer", f"/model/info: {rows.malformed} rows are malformed")
        if len(kept) < len(rows.by_id):
            known = TroubleError("LimitReached", f"{len(kept)} of {len(rows.by_id)} are shown")
        self._deployments.set_listed(await self._listed(kept), self._settings.aliases)
        self._poller.confirm("models", known)

    async def _listed(self, rows: dict[str, list[Row]]) -> dict[str, Listed]:
        aliases = self._settings.aliases
        several = [id for id, own in rows.items() if is_ambiguous(own, aliases)]
        self._wildcards = {id: row for id, row in self._wildcards.items() if id in several}
        for id in [id for id in several if id not in self._wildcards][:MAX_REQUESTED]:
            if configured := await self._request_deployment(id):
                self._wildcards[id] = configured
        wildcards, before = self._wildcards, self._deployments.listed

        def each() -> dict[str, Listed]:
            found = {id: listed(own, aliases, wildcards.get(id)) for id, own in rows.items()}
            return {id: before[id] if before.get(id) == one else one for id, one in found.items()}

        return await asyncio.to_thread(each)

    async def _request_deployment(self, id: str) -> Row | None:
        """Return the row of one deployment as configured: a wildcard under its own name."""
        target = "/model/info?" + urlencode({"litellm_model_id": id})
        try:
            rows = (await self._request(target, parse_models)).by_id.get(id, [])
        except RefusalError:
            return None
        return rows[0] if len(rows) == 1 else None

    async def _poll_metrics(self) -> None:
        """Poll the metrics: failures and cooldowns count even if measures cannot be shown."""
        try:
            page, date = await self._request_page()
        except RefusalError as refusal:
            if refusal.status != 404:
                raise
            return self._publish(None, CALLBACK)
        if metrics.WITHOUT_LICENCE in page.families:
            return self._publish(None, LICENCE)
        now = self._clock.monotonic()
        rises, measures, found = await asyncio.to_thread(self._interpret, page, now, date)
        self._deployments.add_measured(found, measures, self._polled_at)
        self._unserved.note(rises, self._deployments.names)
        self._publish_unserved()
        self._polled_at = now
        await asyncio.sleep(0)  # let other tasks run: many deployments take long
        if self._usage.is_several(now):
            return self._publish(None, SEVERAL)
        self._publish(measures, _why_not(measures))

    def _interpret(
        self, page: metrics.MetricsPage, now: float, date: float | None
    ) -> tuple[dict[Series, float], Measures, list[tuple[str, Observation]]]:
        """Return what a page shows; run this in a thread. No other poll runs meanwhile."""
        rises = self._usage.add(page, now, date)
        names = self._deployments.names
        measures = Measures(self._usage, page, names, self._caches, self._caller)
        return rises, measures, self._deployments.observations(rises, measures)

    def _publish(self, measures: Measures | None, why_not: str = "") -> None:
        self._deployments.measures = measures
        self._deployments.publish_all()
        known = TroubleError("MetricsUnavailable", why_not) if why_not else None
        self._poller.confirm("metrics", known)

    def _publish_unserved(self) -> None:
        names = self._unserved.names(self._deployments.names)
        self._poller.expect(["calls"], bool(names))
        if names:
            self._poller.confirm("calls", TroubleError("UnknownModel", _unserved(names)))

    async def _request_page(self) -> tuple[metrics.MetricsPage, float | None]:
        """Return the metrics page and its date.

        Request only the needed samples; from a new process request all, to learn which metrics it
        has. Workers that share a page have no start time and answer such a request with nothing.
        """
        named: tuple[metrics.MetricsPage, float | None] | None = None
        if self._families:
            named = page, date = await self._get_page(metrics.TARGET)
            if page.process in self._families:
                families = page.families | self._families[page.process or 0.0]
                return page._replace(families=families), date
        page, date = await self._get_page(metrics.WHOLE)
        self._families = {} if page.process is None else {page.process: page.families}
        if named and named[0].process not in (None, page.process):
            # Two processes answered in one poll.
            self._usage.note_several(self._clock.monotonic())
            return named[0]._replace(families=named[0].families | page.families), named[1]
        return page, date

    async def _get_page(self, target: str) -> tuple[metrics.MetricsPage, float | None]:
        answer = await self._client.get(target, kind="text/plain")
        if self._page is None or answer.body != self._body:
            parse = partial(metrics.parse, caller=self._caller)
            self._page = await self._parsed("/metrics/", parse, answer.body)
            self._body = answer.body if len(answer.body) <= MAX_KEPT_BYTES else None
        return self._page, answer.date

    async def _poll_budgets(self) -> None:
        """Poll the budgets; not if none are configured, for then the proxy would answer 500."""
        if not self._has_budgets:
            self._deployments.left_by_provider = {}
            return
        left = await self._request("/provider/budgets", budgets.parse_budgets)
        self._deployments.left_by_provider = left
        self._deployments.publish_all()
        self._poller.confirm("budgets")

    async def _poll_database(self) -> None:
        readiness = await self._request("/health/readiness", decoder(budgets.Readiness))
        self._caches = await self._request_cache(readiness)
        there = readiness.db == "connected"
        self._poller.expect(["database"], there)
        known: list[TroubleError] = []
        self._deployments.database = (
            await self._request_remaining(known) if there else budgets.Database({}, {})
        )
        self._deployments.publish_all()
        if there:
            self._poller.confirm("database", next(iter(known), None))

    async def _request_cache(self, readiness: budgets.Readiness) -> bool | None:
        """Return whether the proxy has a cache; None if not known, or if the metrics show it."""
        measures = self._deployments.measures
        if measures and measures.page.has(metrics.CACHE_HITS):
            return None
        if readiness.cache is UNSET:
            try:
                readiness = await self._request(
                    "/health/readiness/details", decoder(budgets.Readiness)
                )
            except RefusalError:
                return None
        return None if readiness.cache is UNSET else readiness.cache is not None

    async def _request_remaining(self, known: list[TroubleError]) -> budgets.Database:
        """Return budgets and spend; append to `known` why some could not be read."""
        today = self._clock.now().date().isoformat()
        day = {"start_date": today, "end_date": today, "page_size": 1000}
        whole = {"return_full_object": "true", "size": 100}
        teams = await self._pages("/v2/team/list", {"page_size": 100}, budgets.Teams, known)
        keys = await self._pages("/key/list", whole, budgets.Keys, known)
        days = await self._pages("/user/daily/activity", day, budgets.DailyActivity, known)
        return budgets.Database(
            budgets.left_by_model(
                None if teams is None else [team for page in teams for team in page.teams],
                None if keys is None else [key for page in keys for key in page.keys],
            ),
            budgets.spent_by_model(result for page in days or () for result in page.results),
        )

    async def _pages(
        self, path: str, query: dict[str, Any], kind: type[T], known: list[TroubleError]
    ) -> list[T] | None:
        """Return all pages up to the limit; None if the key may not read them or none exist."""
        pages: list[Any] = []
        try:
            for number in count(1):
                target = f"{path}?{urlencode({**query, 'page': number})}"
                page: Any = await self._request(target, decoder(kind))
                pages.append(page)
                if number >= page.total_pages:
                    break
                if number == self._limits.max_pages:
                    message = f"{path}: {number} of {page.total_pages} pages are read"
                    known.append(TroubleError("LimitReached", message))
                    break
        except RefusalError as refusal:
            trouble = await self._poller.narrow(refusal) if refusal.status == 401 else refusal
            if trouble.reason == "Forbidden":
                known.append(trouble)
            elif refusal.status != 404:
                raise
            return None
        return pages

    async def _check_health_for_ever(self, every: float) -> None:
        await self._clock.sleep(self._interval)  # the deployments should be known before
        while True:
            try:
                health = await self._request(
                    "/health", decoder(Health), timeout=HEALTH_TIMEOUT_SECONDS
                )
            except TroubleError as trouble:
                self._poller.note("health", trouble)
            else:
                self._poller.note("health", None)
                self._deployments.add(health.observations(), self._polled_at)
                self._deployments.publish_all()
            await self._clock.sleep(every)

    async def _request(
        self, target: str, parse: Callable[[bytes], T], *, timeout: float | None = None
    ) -> T:
        answer = await self._client.get(target, timeout=timeout)
        return await self._parsed(target.partition("?")[0], parse, answer.body)

    async def _parsed(self, path: str, parse: Callable[[bytes], T], body: bytes) -> T:
        """Parse in a thread: 100 deployments are a megabyte, and metrics may be larger."""
        try:
            return await asyncio.to_thread(parse, body)
        except (ValueError, IndexError):  # msgspec's errors are ValueErrors
            raise TroubleError("BadAnswer", f"{path}: the answer is malformed") from None


def _why_not(measures: Measures) -> str:
    """Return which metrics are missing and why, or "" if none are."""
    page, missing = measures.page, measures.missing()
    if not missing:
        return ""
    if page.overflowing:
        why = "some series are beyond prometheus_metrics_max_series_per_metric"
    elif page.process is None:
        why = "not counted yet, or omitted by the proxy's configuration"
    else:
        why = "the proxy's configuration omits them or their label model_id"
    return f"{', '.join(missing)}: {why}"


def _unserved(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"calls ask for models that no deployment serves: {', '.join(names[:MAX_NAMED])}{more}"


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Return a JSON parser of this type."""
    return msgspec.json.Decoder(kind).decode
