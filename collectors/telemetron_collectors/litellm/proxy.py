"""One proxy: what is asked of it, and what the answers say."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.litellm import budgets, metrics
from telemetron_collectors.litellm.client import Client, RefusalError
from telemetron_collectors.litellm.deployments import Deployments
from telemetron_collectors.litellm.figures import Figures
from telemetron_collectors.litellm.health import Health
from telemetron_collectors.litellm.models import (
    Listed,
    Row,
    Values,
    is_ambiguous,
    listed,
    parse_models,
    parse_router,
)
from telemetron_collectors.litellm.unserved import Unserved
from telemetron_collectors.litellm.usage import Usage
from telemetron_collectors.litellm.watch import Look, Watch

# How often each is asked, in intervals: of 10 s, by default.
METRICS_EVERY = 1
BUDGETS_EVERY = 3
MODELS_EVERY = 6
DATABASE_EVERY = 6
ROUTER_EVERY = 30

HEALTH_TIMEOUT_SECONDS = 120.0
MAX_DEPLOYMENTS = 2_000
MAX_PAGES = 20
MAX_NAMED = 8
MAX_ASKED = 100
"""How many deployments are asked for by their id in one look."""

CALLBACK = 'the proxy has no metrics: set litellm_settings.callbacks: ["prometheus"]'
LICENCE = "this version of the proxy has metrics only with a licence"
SEVERAL = "several processes answer, each with counters of its own: one source for each replica"

T = TypeVar("T")


class Proxy:
    """Each look asks one thing, tells it to the deployments, and confirms its scope."""

    def __init__(
        self,
        client: Client,
        output: Output,
        interval: float,
        max_age_seconds: float,
        caller: str | None = None,
    ) -> None:
        self._client = client
        self._clock = output.clock
        self._interval = interval
        self._caller = caller
        self._watch = Watch(client, output, interval)
        self._deployments = Deployments(output, max_age_seconds)
        self._unserved = Unserved(output)
        self._usage = Usage(slack_seconds=3 * interval)
        self._looked_at = self._clock.monotonic()
        self._families: dict[float, frozenset[str]] = {}
        """The metrics of the process that answered last, by its start."""
        self._caches: bool | None = None
        self._settings = Values()
        self._has_budgets = False
        self._asked: dict[str, Row] = {}
        """The deployments of several rows as they are configured."""

    async def observe(self, health_every: float | None) -> None:
        """Until cancelled."""
        looks = (
            ("router", ROUTER_EVERY, self._ask_router),
            ("models", MODELS_EVERY, self._ask_models),
            ("database", DATABASE_EVERY, self._ask_database),
            ("metrics", METRICS_EVERY, self._ask_metrics),
            ("budgets", BUDGETS_EVERY, self._ask_budgets),
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
        try:
            self._settings = await self._ask("/router/settings", parse_router)
            self._has_budgets = bool(self._settings.provider_budget_config)
        except RefusalError as refusal:
            if refusal.status != 404:
                raise
            # Versions before this endpoint; whether there are budgets is found by asking for them.
            self._settings, self._has_budgets = Values(), await self._finds_budgets()
        self._deployments.cooldown_seconds = metrics.finite(self._settings.cooldown_time)
        self._watch.has_scopes(["budgets"], self._has_budgets)

    async def _finds_budgets(self) -> bool:
        try:
            return bool(await self._ask("/provider/budgets", budgets.parse_budgets))
        except RefusalError:
            return False

    async def _ask_models(self) -> None:
        rows = await self._ask("/model/info", parse_models)
        kept = dict(sorted(rows.by_id.items())[:MAX_DEPLOYMENTS])
        known = self._watch.first_note()
        if rows.odd:
            known = TroubleError("BadAnswer", f"/model/info: {rows.odd} rows cannot be understood")
        if len(kept) < len(rows.by_id):
            known = TroubleError("LimitReached", f"{len(kept)} of {len(rows.by_id)} are shown")
        self._deployments.set_listed(await self._listed(kept), self._settings.aliases)
        self._watch.confirm("models", known)

    async def _listed(self, rows: dict[str, list[Row]]) -> dict[str, Listed]:
        aliases = self._settings.aliases
        several = [id for id, own in rows.items() if is_ambiguous(own, aliases)]
        self._asked = {id: row for id, row in self._asked.items() if id in several}
        for id in [id for id in several if id not in self._asked][:MAX_ASKED]:
            if itself := await self._ask_deployment(id):
                self._asked[id] = itself
        return {id: listed(own, aliases, self._asked.get(id)) for id, own in rows.items()}

    async def _ask_deployment(self, id: str) -> Row | None:
        """One deployment as it is configured: a wildcard under its own name."""
        target = "/model/info?" + urlencode({"litellm_model_id": id})
        try:
            rows = (await self._ask(target, parse_models)).by_id.get(id, [])
        except RefusalError:
            return None
        return rows[0] if len(rows) == 1 else None

    async def _ask_metrics(self) -> None:
        """What failed or cooled down is evidence even where the figures are not."""
        try:
            page, date = await self._ask_page()
        except RefusalError as refusal:
            if refusal.status != 404:
                raise
            return self._tell(None, CALLBACK)
        if metrics.WITHOUT_LICENCE in page.families:
            return self._tell(None, LICENCE)
        now = self._clock.monotonic()
        rises = await asyncio.to_thread(self._usage.take, page, now, date)
        names = self._deployments.names
        figures = Figures(self._usage, page, names, self._caches, self._caller)
        self._deployments.note(rises, figures, self._looked_at)
        self._unserved.note(rises, names)
        self._tell_unserved()
        self._looked_at = now
        await asyncio.sleep(0)  # each of these takes its time if there are many deployments
        if self._usage.is_several(now):
            return self._tell(None, SEVERAL)
        self._tell(figures, _why_not(figures))

    def _tell(self, figures: Figures | None, why_not: str = "") -> None:
        self._deployments.figures = figures
        self._deployments.show_all()
        known = TroubleError("MetricsUnavailable", why_not) if why_not else None
        self._watch.confirm("metrics", known)

    def _tell_unserved(self) -> None:
        names = self._unserved.names(self._deployments.names)
        self._watch.has_scopes(["calls"], bool(names))
        if names:
            self._watch.confirm("calls", TroubleError("UnknownModel", _unserved(names)))

    async def _ask_page(self) -> tuple[metrics.Page, float | None]:
        """Some samples of the metrics; all, to learn which metrics a new process has.

        Workers that share a page answer a request for named metrics with nothing, and have no
        start time.
        """
        named: tuple[metrics.Page, float | None] | None = None
        if self._families:
            named = page, date = await self._get_page(metrics.TARGET)
            if page.process in self._families:
                families = page.families | self._families[page.process or 0.0]
                return page._replace(families=families), date
        page, date = await self._get_page(metrics.WHOLE)
        self._families = {} if page.process is None else {page.process: page.families}
        if named and named[0].process not in (None, page.process):
            # Two processes answered within one look.
            self._usage.note_several(self._clock.monotonic())
            return named[0]._replace(families=named[0].families | page.families), named[1]
        return page, date

    async def _get_page(self, target: str) -> tuple[metrics.Page, float | None]:
        answer = await self._client.get(target, kind="text/plain")
        parse = partial(metrics.parse, caller=self._caller)
        return await self._parsed("/metrics/", parse, answer.body), answer.date

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
        self._caches = await self._ask_whether_it_caches(readiness)
        there = readiness.db == "connected"
        self._watch.has_scopes(["database"], there)
        known: list[TroubleError] = []
        self._deployments.database = (
            await self._ask_what_is_left(known) if there else budgets.Database({}, {})
        )
        self._deployments.show_all()
        if there:
            self._watch.confirm("database", next(iter(known), None))

    async def _ask_whether_it_caches(self, readiness: budgets.Readiness) -> bool | None:
        """Asked only if the metrics do not tell cached answers apart. None: not known."""
        figures = self._deployments.figures
        if figures and figures.page.has(metrics.CACHE_HITS):
            return None
        if readiness.cache is UNSET:
            try:
                readiness = await self._ask("/health/readiness/details", decoder(budgets.Readiness))
            except RefusalError:
                return None
        return None if readiness.cache is UNSET else readiness.cache is not None

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
                None if teams is None else [team for page in teams for team in page.teams],
                None if keys is None else [key for page in keys for key in page.keys],
            ),
            budgets.spent_by_model(result for page in days or () for result in page.results),
        )

    async def _pages(
        self, path: str, query: dict[str, Any], kind: type[T], known: list[TroubleError]
    ) -> list[T] | None:
        """All pages, 20 at most; None: the key may not read them, or this version has none."""
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
            trouble = await self._watch.narrowed(refusal) if refusal.status == 401 else refusal
            if trouble.reason == "Forbidden":
                known.append(trouble)
            elif refusal.status != 404:
                raise
            return None
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


def _why_not(figures: Figures) -> str:
    """Which figures are null, and what would mend it; empty: none is."""
    page, missing = figures.page, figures.missing()
    if not missing:
        return ""
    if page.overflowing:
        why = "some are beyond prometheus_metrics_max_series_per_metric"
    elif page.process is None:
        why = "not counted yet, or left out by the proxy's configuration"
    else:
        why = "the proxy's configuration leaves them or their label model_id out"
    return f"{', '.join(missing)}: {why}"


def _unserved(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"calls ask for models that no deployment serves: {', '.join(names[:MAX_NAMED])}{more}"


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A parser of JSON of this type."""
    return msgspec.json.Decoder(kind).decode
