"""`GET /metrics`: Telemetron's own health for Prometheus, read from the store at each scrape."""

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from time import monotonic
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetron import __version__
from telemetron.query import parameters
from telemetron.service.service import Service
from telemetron.store.source import Source
from telemetron.web.negotiation import preferred

STATUSES = ("starting", "ok", "degraded", "stale", "failing", "off")
REQUEST_BOUNDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
LAG_BOUNDS = (1e-3, 2.5e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
LAG_SECONDS = 0.1

TEXT = "text/plain"
OPEN_METRICS = "application/openmetrics-text"
VERSIONS = {TEXT: "0.0.4", OPEN_METRICS: "1.0.0"}


class Histogram:
    """Counts of durations by upper bound, cheap enough for every request: no lock, no label."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """One more of so many seconds."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """(`le`, how many were at most that), as Prometheus has them."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Family(NamedTuple):
    """All samples of one metric; plain values, so that another thread can write them out."""

    kind: str
    name: str
    help: str
    labels: Sequence[str] = ()
    samples: Sequence[tuple[Sequence[str], Any]] = ()
    """Values of the labels, and the value; a histogram's are its buckets and their sum."""


class Metrics:
    """What the server counts itself, and what a scrape shows of it and of the store."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.reads = Histogram(REQUEST_BOUNDS)
        self.pushes = Histogram(REQUEST_BOUNDS)
        self.loop_lag = Histogram(LAG_BOUNDS)

    def routes(self) -> list[Route]:
        """`/metrics`."""

        async def metrics(request: Request) -> Response:
            parameters(request.scope["query_string"], ())
            content_type, body = await self.render(request.headers.get("accept", ""))
            headers = {"content-type": content_type, "cache-control": "no-store", "vary": "Accept"}
            return Response(body, headers=headers)

        return [Route("/metrics", metrics)]

    async def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and body: OpenMetrics where it is asked for, else Prometheus' text."""
        media = preferred(accept, (TEXT, OPEN_METRICS)) or TEXT
        # prometheus_client takes its time to import, and reads /proc.
        body = await asyncio.to_thread(_render, list(self._families()), media)
        return f"{media}; version={VERSIONS[media]}; charset=utf-8", body

    async def watch_loop(self) -> None:
        """Measure the event loop's lag, until cancelled: how late it wakes a timer."""
        while True:
            due = monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.loop_lag.observe(max(0.0, monotonic() - due))

    # what a scrape shows

    def _families(self) -> Iterator[Family]:
        """Everything at one moment of the event loop."""
        yield from self._state()
        yield from _sources(self._service.store.sources.values())
        yield from self._server()

    def _state(self) -> Iterator[Family]:
        snapshot = self._service.store.snapshot
        build = [((__version__, platform.python_version()), 1)]
        yield Family("gauge", "telemetron_build_info", "What runs.", ("version", "python"), build)
        start = snapshot.started_at.timestamp()
        yield _one(
            "gauge", "telemetron_start_time_seconds", "Unix time of the epoch's start.", start
        )
        revision = snapshot.change.revision
        yield _one("gauge", "telemetron_state_revision", "Revision of the document.", revision)
        ropes = {name: section.rope for name, section in snapshot.sections.items()}
        counts = [((name,), len(rope)) for name, rope in ropes.items()]
        yield Family(
            "gauge", "telemetron_state_entities", "Entities by section.", ("section",), counts
        )
        sizes = [
            ((name,), sum(chunk.size for chunk in rope.chunks)) for name, rope in ropes.items()
        ]
        yield Family(
            "gauge", "telemetron_state_bytes", "JSON bytes by section.", ("section",), sizes
        )

    def _server(self) -> Iterator[Family]:
        yield _histogram(
            "telemetron_http_read_duration_seconds",
            "Time to answer GET /system/state; without filters and long polls.",
            self.reads,
        )
        yield _histogram(
            "telemetron_http_push_duration_seconds",
            "Time to take what was pushed to a collector, as a heartbeat.",
            self.pushes,
        )
        yield _histogram(
            "telemetron_event_loop_lag_seconds",
            f"How late the event loop woke a timer; measured every {LAG_SECONDS} s.",
            self.loop_lag,
        )
        waiting = len(self._service.waiters)
        yield _one("gauge", "telemetron_waiters", "Long polls that wait now.", waiting)
        cut = [((reason,), number) for reason, number in self._service.readers.cut.items()]
        yield Family(
            "counter", "telemetron_readers_cut_total", "Connections cut.", ("reason",), cut
        )


def _sources(sources: Iterable[Source]) -> Iterator[Family]:
    sources = sorted(sources, key=lambda source: source.name)
    named = ("source",)
    yield Family(
        "gauge",
        "telemetron_source_status",
        "1 for the status that a source has, 0 for the others.",
        ("source", "collector", "status"),
        [((s.name, s.collector, one), int(s.status == one)) for s in sources for one in STATUSES],
    )
    yield Family(
        "gauge",
        "telemetron_source_age_seconds",
        "Since when a source is not ok: time since all it shows was true; 0 while ok.",
        named,
        [((s.name,), age) for s in sources if (age := _age(s)) is not None],
    )
    yield Family(
        "counter",
        "telemetron_source_restarts_total",
        "How often a source's collector ended and was started again.",
        named,
        [((s.name,), s.restarts) for s in sources],
    )
    yield Family(
        "gauge",
        "telemetron_source_problems",
        "Problems that a source has now.",
        named,
        [((s.name,), s.problem_count) for s in sources],
    )
    yield Family(
        "gauge",
        "telemetron_source_entities",
        "Entities that a source contributes to.",
        named,
        [((s.name,), s.entities) for s in sources],
    )
    yield Family(
        "counter",
        "telemetron_source_events_total",
        "What a source's collector counts.",
        ("source", "event"),
        [((s.name, event), number) for s in sources for event, number in sorted(s.events.items())],
    )


def _age(source: Source) -> float | None:
    """None: it never was ok."""
    if source.status == "ok":
        return 0.0
    if source.last_ok_at is None:
        return None
    return max(0.0, (source.clock.now() - source.last_ok_at).total_seconds())


def _one(kind: str, name: str, help: str, value: float) -> Family:
    return Family(kind, name, help, (), [((), value)])


def _histogram(name: str, help: str, histogram: Histogram) -> Family:
    return Family("histogram", name, help, (), [((), (histogram.buckets(), histogram.total))])


def _render(families: Sequence[Family], media: str) -> bytes:
    import prometheus_client as prometheus
    from prometheus_client.openmetrics import exposition as openmetrics

    registry = prometheus.CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    prometheus.ProcessCollector(registry=registry)
    write = openmetrics.generate_latest if media == OPEN_METRICS else prometheus.generate_latest
    return write(registry)


class _Families:
    """A collector of prometheus_client."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core

        types: dict[str, Any] = {
            "gauge": core.GaugeMetricFamily,
            "counter": core.CounterMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for family in self._families:
            metric = types[family.kind](family.name, family.help, labels=family.labels)
            for labels, value in family.samples:
                metric.add_metric(labels, *(value if isinstance(value, tuple) else (value,)))
            yield metric
