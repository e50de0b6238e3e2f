"""One proxy: what is asked of it, and what the answers say."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from collectors.litellm import budgets, metrics
from collectors.litellm.client import Client, RefusalError
from collectors.litellm.deployments import Deployments, Figures
from collectors.litellm.health import Health
from collectors.litellm.models import parse_models, parse_router
from collectors.litellm.usage import Usage
from collectors.litellm.watch import Look, Watch
from telemetron.collector import Output
from telemetron.poll import TroubleError

# How often each is asked, in intervals: of 10 s, by default.
METRICS_EVERY = 1
BUDGETS_EVERY = 3
MODELS_EVERY = 6
DATABASE_EVERY = 6
ROUTER_EVERY = 30

HEALTH_TIMEOUT_SECONDS = 120.0
MAX_DEPLOYMENTS = 2_000
MAX_PAGES = 20

CALLBACK = 'the proxy has no metrics: set litellm_settings.callbacks: ["prometheus"]'
SEVERAL = "several processes count apart: set PROMETHEUS_MULTIPROC_DIR at the proxy"

T = TypeVar("T")


class Proxy:
    """Each look asks one thing, tells it to the deployments, and confirms its scope."""

    def __init__(self, client: Client, output: Output, interval: float) -> None:
        self._client = client
        self._clock = output.clock
        self._interval = interval
        self._watch = Watch(client, output, interval)
        self._deployments = Deployments(output)
        self._usage = Usage(slack_seconds=3 * interval)
        self._looked_at = self._clock.monotonic()
        self._has_budgets = False

    async def observe(self, health_every: float | None) -> None:
        """Until cancelled."""
        looks = (
            ("router", ROUTER_EVERY, self._ask_router),
            ("models", MODELS_EVERY, self._ask_models),
            ("metrics", METRICS_EVERY, self._ask_metrics),
            ("budgets", BUDGETS_EVERY, self._ask_budgets),
            ("database", DATABASE_EVERY, self._ask_database),
        )
        self._watch.has_scopes(["models", "metrics"])
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._watch.run(
                    [Look(name, every * self._interval, once) for name, every, once in looks]
                )
            )
            if health_every:
                group.create_task(self._check_health_for_ever(health_every))

    def close(self) -> None:
        """No timer is left behind."""
        self._deployments.close()

    async def _ask_router(self) -> None:
        values = await self._ask("/router/settings", parse_router)
        self._deployments.cooldown_seconds = metrics.finite(values.cooldown_time)
        self._has_budgets = bool(values.provider_budget_config)
        self._watch.has_scopes(["budgets"], self._has_budgets)

    async def _ask_models(self) -> None:
        listed = await self._ask("/model/info", parse_models)
        kept = dict(sorted(listed.items())[:MAX_DEPLOYMENTS])
        self._deployments.list(kept)
        known = self._watch.first_note()
        if len(kept) < len(listed):
            known = TroubleError("LimitReached", f"{len(kept)} of {len(listed)} are shown")
        self._watch.confirm("models", known)

    async def _ask_metrics(self) -> None:
        """What failed or cooled down is evidence even where the figures are not."""
        try:
            page, date = await self._ask_page()
        except RefusalError as refusal:
            if refusal.status != 404:
                raise
            return self._tell(None, CALLBACK)
        now = self._clock.monotonic()
        rises = self._usage.take(page, now, date)
        self._deployments.note(rises, page, self._looked_at)
        self._looked_at = now
        if self._usage.is_several(now):
            return self._tell(None, SEVERAL)
        self._tell(Figures(self._usage, page))

    def _tell(self, figures: Figures | None, why_not: str = "") -> None:
        self._deployments.figures = figures
        self._deployments.show_all()
        known = TroubleError("MetricsUnavailable", why_not) if why_not else None
        self._watch.confirm("metrics", known)

    async def _ask_page(self) -> tuple[metrics.Page, float | None]:
        answer = await self._client.get(metrics.TARGET, kind="text/plain")
        return await self._parsed("/metrics/", metrics.parse, answer.body), answer.date

    async def _ask_budgets(self) -> None:
        """Where none are configured the proxy answers with a 500, so it is not asked."""
        if not self._has_budgets:
            self._deployments.left_by_provider = {}
            return
        left = await self._ask("/provider/budgets", budgets.parse_budgets)
        self._deployments.left_by_provider = left
        self._deployments.show_all()
        self._watch.confirm("budgets")

    async def _ask_database(self) -> None:
        readiness = await self._ask("/health/readiness", decoder(budgets.Readiness))
        there = readiness.db == "connected"
        self._watch.has_scopes(["database"], there)
        known: list[TroubleError] = []
        self._deployments.database = (
            await self._ask_what_is_left(known) if there else budgets.Database({}, {})
        )
        self._deployments.show_all()
        if there:
            self._watch.confirm("database", next(iter(known), None))

    async def _ask_what_is_left(self, known: list[TroubleError]) -> budgets.Database:
        """What cannot be read for a reason that is certain is appended to `known`."""
        today = self._clock.now().date().isoformat()
        day = {"start_date": today, "end_date": today, "page_size": 1000}
        whole = {"return_full_object": "true", "size": 100}
        teams = await self._pages("/v2/team/list", {"page_size": 100}, budgets.Teams, known)
        keys = await self._pages("/key/list", whole, budgets.Keys, known)
        days = await self._pages("/user/daily/activity", day, budgets.Activity, known)
        return budgets.Database(
            budgets.left_by_model(
                (team for page in teams for team in page.teams),
                (key for page in keys for key in page.keys),
            ),
            budgets.spent_by_model(result for page in days for result in page.results),
        )

    async def _pages(
        self, path: str, query: dict[str, Any], kind: type[T], known: list[TroubleError]
    ) -> list[T]:
        """All pages, 20 at most; none where the key is not permitted to read them."""
        pages: list[Any] = []
        try:
            for number in count(1):
                target = f"{path}?{urlencode({**query, 'page': number})}"
                page: Any = await self._ask(target, decoder(kind))
                pages.append(page)
                if number >= page.total_pages:
                    break
                if number == MAX_PAGES:
                    message = f"{path}: {MAX_PAGES} of {page.total_pages} pages are read"
                    known.append(TroubleError("LimitReached", message))
                    break
        except RefusalError as refusal:
            if refusal.reason != "Forbidden":
                raise
            known.append(refusal)
        return pages

    async def _check_health_for_ever(self, every: float) -> None:
        await self._clock.sleep(self._interval)  # what there is should be known before
        while True:
            try:
                health = await self._ask("/health", decoder(Health), timeout=HEALTH_TIMEOUT_SECONDS)
            except TroubleError as trouble:
                self._watch.note("health", trouble)
            else:
                self._watch.note("health", None)
                self._deployments.happened(health.seen(), self._looked_at)
                self._deployments.show_all()
            await self._clock.sleep(every)

    async def _ask(
        self, target: str, parse: Callable[[bytes], T], *, timeout: float | None = None
    ) -> T:
        answer = await self._client.get(target, timeout=timeout)
        return await self._parsed(target.partition("?")[0], parse, answer.body)

    async def _parsed(self, path: str, parse: Callable[[bytes], T], body: bytes) -> T:
        """In a thread: 100 deployments are a megabyte, and a page of metrics may be more."""
        try:
            return await asyncio.to_thread(parse, body)
        except (ValueError, IndexError):  # msgspec's errors are ValueErrors
            raise TroubleError("BadAnswer", f"{path} cannot be understood") from None


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A parser of JSON of this type."""
    return msgspec.json.Decoder(kind).decode
