"""`GET /metrics`: Telemetron's own health for Prometheus, read from the store at each scrape."""

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING, Any

from telemetron import __version__
from telemetron.http import Receive, Scope, Send, answer, header
from telemetron.query import parameters
from telemetron.store.source import Source
from telemetron.store.store import Store
from telemetron.web.negotiation import preferred
from telemetron.web.server.connection import Readers
from telemetron.web.waiters import Waiters

if TYPE_CHECKING:
    from prometheus_client.core import Metric

STATUSES = ("starting", "ok", "degraded", "stale", "failing", "off")
REQUEST_BOUNDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
LAG_BOUNDS = (1e-3, 2.5e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
LAG_SECONDS = 0.1

TEXT = "text/plain"
OPEN_METRICS = "application/openmetrics-text"
VERSIONS = {TEXT: "0.0.4", OPEN_METRICS: "1.0.0"}

Samples = Iterable[tuple[Sequence[str], float]]
"""Values of the labels, and the value."""


def media_of(scope: Scope) -> str:
    """Return the format that the client prefers; the text format if it accepts neither."""
    accept = header(scope, b"accept").decode("latin-1")
    return preferred(accept, (TEXT, OPEN_METRICS)) or TEXT


def content_type(media: str) -> str:
    """Return the media type with its version."""
    return f"{media}; version={VERSIONS[media]}; charset=utf-8"


class Histogram:
    """Counts of durations by upper bound, cheap enough for every request: no lock, no label."""

    __slots__ = ("bounds", "counts", "least", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.least = bounds[0]
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        if seconds <= self.least:
            self.counts[0] += 1
        else:
            self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return (`le`, number of durations up to that bound), cumulative as in Prometheus."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Metrics:
    """The counts of the server, and the answer to a scrape: them and the health of the sources."""

    def __init__(self, store: Store, waiters: Waiters, readers: Readers) -> None:
        self._store = store
        self._waiters = waiters
        self._readers = readers
        self.reads = Histogram(REQUEST_BOUNDS)
        self.pushes = Histogram(REQUEST_BOUNDS)
        self.loop_lag = Histogram(LAG_BOUNDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer in OpenMetrics if the client prefers it, else in the older text format."""
        parameters(scope["query_string"], ())
        media = media_of(scope)
        # In threads: the first import takes 15 ms, and a scrape reads /proc.
        await asyncio.to_thread(import_module, "prometheus_client.openmetrics.exposition")
        body = await asyncio.to_thread(_encoded, list(self._families()), media)
        headers = {
            "content-type": content_type(media),
            "cache-control": "no-store",
            "vary": "Accept",
        }
        await answer(scope, send, 200, body, headers)

    async def watch_loop(self) -> None:
        """Measure how late the event loop wakes a timer, until cancelled."""
        while True:
            due = monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.loop_lag.observe(max(0.0, monotonic() - due))

    # the families of a scrape, all read at one moment of the event loop

    def _families(self) -> Iterator["Metric"]:
        yield from self._state()
        yield from _sources(self._store.sources.values())
        yield from self._server()

    def _state(self) -> Iterator["Metric"]:
        snapshot = self._store.snapshot
        ropes = {name: section.rope for name, section in snapshot.sections.items()}
        yield _gauge(
            "telemetron_build_info",
            "What runs.",
            [((__version__, platform.python_version()), 1)],
            ("version", "python"),
        )
        yield _gauge(
            "telemetron_start_time_seconds",
            "Unix time of the epoch's start.",
            [((), snapshot.started_at.timestamp())],
        )
        yield _gauge(
            "telemetron_state_revision",
            "Revision of the document.",
            [((), snapshot.change.revision)],
        )
        yield _gauge(
            "telemetron_state_entities",
            "Entities by section.",
            [((name,), len(rope)) for name, rope in ropes.items()],
            ("section",),
        )
        yield _gauge(
            "telemetron_state_bytes",
            "JSON bytes by section.",
            [((name,), sum(chunk.size for chunk in rope.chunks)) for name, rope in ropes.items()],
            ("section",),
        )

    def _server(self) -> Iterator["Metric"]:
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
        yield _gauge("telemetron_waiters", "Long polls that wait now.", [((), len(self._waiters))])
        yield _counter(
            "telemetron_readers_cut_total",
            "Connections cut.",
            [((reason,), number) for reason, number in self._readers.cut.items()],
            ("reason",),
        )


def _sources(sources: Iterable[Source]) -> Iterator["Metric"]:
    sources = sorted(sources, key=lambda source: source.name)
    yield _gauge(
        "telemetron_source_status",
        "1 for the status that a source has, 0 for the others.",
        [((s.name, s.collector, one), int(s.status == one)) for s in sources for one in STATUSES],
        ("source", "collector", "status"),
    )
    yield _gauge(
        "telemetron_source_age_seconds",
        "Since when a source is not ok: time since all it shows was true; 0 while ok.",
        [((s.name,), age) for s in sources if (age := _age(s)) is not None],
        ("source",),
    )
    yield _counter(
        "telemetron_source_restarts_total",
        "How often a source's collector ended and was started again.",
        [((s.name,), s.restarts) for s in sources],
        ("source",),
    )
    yield _gauge(
        "telemetron_source_problems",
        "Problems that a source has now.",
        [((s.name,), s.problem_count) for s in sources],
        ("source",),
    )
    yield _gauge(
        "telemetron_source_entities",
        "Entities that a source contributes to.",
        [((s.name,), s.entities) for s in sources],
        ("source",),
    )
    yield _counter(
        "telemetron_source_events_total",
        "What a source's collector counts.",
        [((s.name, event), number) for s in sources for event, number in sorted(s.events.items())],
        ("source", "event"),
    )


def _age(source: Source) -> float | None:
    """Return 0 while the source is ok; None if it never was."""
    if source.status == "ok":
        return 0.0
    if source.last_ok_at is None:
        return None
    return max(0.0, (source.clock.now() - source.last_ok_at).total_seconds())


def _gauge(name: str, help: str, samples: Samples, labels: Sequence[str] = ()) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, help, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, help: str, samples: Samples, labels: Sequence[str]) -> "Metric":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, help, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _histogram(name: str, help: str, histogram: Histogram) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, help, histogram.buckets(), histogram.total)


def _encoded(families: Sequence["Metric"], media: str) -> bytes:
    import prometheus_client as prometheus
    from prometheus_client.openmetrics import exposition as openmetrics

    registry: Any = prometheus.CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    prometheus.ProcessCollector(registry=registry)
    encode = openmetrics.generate_latest if media == OPEN_METRICS else prometheus.generate_latest
    return encode(registry)


class _Collected:
    """What a registry of prometheus_client asks for its families."""

    def __init__(self, families: Sequence["Metric"]) -> None:
        self._families = families

    def collect(self) -> Sequence["Metric"]:
        return self._families
