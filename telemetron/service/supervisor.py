"""The supervisor: loads collectors, runs each source in a task of its own, restarts it."""

import asyncio
import importlib.metadata
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from loguru import logger
from msgspec import Struct

from telemetron.backoff import Backoff
from telemetron.collector import ENTRY_POINTS, PROBES, Collector, Config
from telemetron.config.settings import ConfigError, SourceSpec, configure
from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.service.searches import Searches
from telemetron.store.source import Source
from telemetron.store.store import Store

T = TypeVar("T")


class SupervisorLimits(Struct, frozen=True, kw_only=True):
    """How long sources may take, seconds."""

    start_seconds: float = 0.25
    """How long a start of the service waits for imports: most end within it."""
    load_seconds: float = 30.0
    """A source whose import takes longer is `stale`."""
    stop_seconds: float = 0.5
    """Less than the server gives the application, so that the log can name what hangs."""
    well_seconds: float = 60.0
    """A crash after a longer run is a first one again: the next run starts after 1 s."""


class NotInstalledError(Exception):
    """No installed package has the collector."""


class Loaded(NamedTuple):
    """A collector that is ready to run, and its configuration."""

    collector: Collector
    config: Config
    promise: float
    address: str | None


class Failed(NamedTuple):
    """The problem of a source that cannot run."""

    reason: str
    message: str


class Supervisor:
    """The tasks of all configured sources; a fault of one leaves the others running."""

    def __init__(self, store: Store, limits: SupervisorLimits | None = None) -> None:
        self.store = store
        self.limits = limits or SupervisorLimits()
        self.mounts = Mounts()
        self.searches = Searches()
        self.collectors: dict[str, Collector] = {}
        """The imported collectors by name."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loads: list[asyncio.Task[object]] = []

    def start(self, specs: Iterable[SourceSpec]) -> None:
        """Start each source, and wait for none."""
        self._loads.append(asyncio.create_task(self._load_probes()))
        for spec in specs:
            source = self.store.add(spec.name, spec.collector)
            source.load(self.limits.load_seconds)
            load = asyncio.create_task(self._load(spec, source))
            task = asyncio.create_task(self._supervise(load, source), name=f"source {spec.name}")
            self._loads.append(load)
            self._tasks[spec.name] = task

    def start_own(self, collector: Collector, config: Config) -> None:
        """Start a source that Telemetron itself brings, without an import."""
        source = self.store.add(collector.name, collector.name)
        loaded = Loaded(collector, config, collector.max_age_seconds(config), None)
        load = asyncio.create_task(_made(loaded))
        task = asyncio.create_task(self._supervise(load, source), name=f"source {source.name}")
        self._tasks[source.name] = task

    async def loaded(self, timeout: float | None) -> None:
        """Wait until all sources are imported and configured, at most `timeout` seconds."""
        if self._loads:
            await asyncio.wait(self._loads, timeout=timeout)

    async def stop(self) -> list[str]:
        """Cancel all sources; return the names of the sources that did not end in time."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self.limits.stop_seconds)
        for source in self.store.sources.values():
            source.stop()
        hanging = [name for name, task in self._tasks.items() if not task.done()]
        if hanging:
            logger.warning("these sources did not stop in time: {}", ", ".join(hanging))
        return hanging

    async def _load(self, spec: SourceSpec, source: Source) -> Loaded | None:
        """Return the collector and its configuration; None if that failed, with a problem."""
        prepared = await _in_thread(lambda: prepare(spec, self.collectors))
        if isinstance(prepared, Failed):
            source.fail(*prepared)
            return None
        self.mounts.register(prepared.collector)
        return prepared

    async def _load_probes(self) -> None:
        """Reserve the probes of all installed collectors, even if no source uses one.

        A probe must not fail because its collector is off, misconfigured or still loading.
        """
        for collector in await _in_thread(load_with_probes):
            self.mounts.register_probes(collector)

    async def _supervise(self, load: "asyncio.Task[Loaded | None]", source: Source) -> None:
        """Run one source from its import to the end of the process."""
        loaded = await load
        if loaded is None:
            return
        backoff = Backoff(first=1.0, cap=300.0)
        while True:
            started = self.store.clock.monotonic()
            source.start(loaded.promise, loaded.address, loaded.collector.agent_rank)
            message = await self._run(source, loaded)
            if _is_stopping():
                return
            source.restarts += 1
            if self.store.clock.monotonic() - started > self.limits.well_seconds:
                backoff.reset()
            source.fail("Crashed", message)
            await self.store.clock.sleep(backoff.next())

    async def _run(self, source: Source, loaded: Loaded) -> str:
        """Run the collector once; return the problem's message, as no run should end."""
        output = BoundOutput(self.store, source, loaded.collector, self.mounts, self.searches)
        try:
            await loaded.collector.run(loaded.config, output)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_stopping():
                raise
            logger.opt(exception=error).error("source {}: the collector crashed", source.name)
            return f"{type(error).__name__} in the collector"
        finally:
            output.close()
        if not _is_stopping():
            logger.error("source {}: the collector returned", source.name)
        return "the collector returned"


async def _made(loaded: Loaded) -> Loaded:
    return loaded


def prepare(spec: SourceSpec, collectors: dict[str, Collector]) -> Loaded | Failed:
    """Import and configure the source's collector; add it to `collectors`.

    Call it in a thread: imports can be slow.
    """
    try:
        collector = collectors[spec.collector] = load(spec.collector)
        config = configure(spec, collector)
        return Loaded(collector, config, _promise(collector, config), collector.address(config))
    except NotInstalledError:
        return Failed("NotInstalled", f"no installed package has a collector {spec.collector!r}")
    except ConfigError as error:
        return Failed("InvalidConfig", str(error))
    except BaseException as error:
        logger.opt(exception=error).error("source {}: loading its collector failed", spec.name)
        message = f"{type(error).__name__} while the collector {spec.collector!r} was loaded"
        return Failed("ImportFailed", message)


def load(name: str) -> Collector:
    """Import the collector of this name; raise NotInstalledError, or whatever its import raises."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        collector = entry_point.load()
        if not isinstance(collector, Collector):
            raise TypeError(f"{entry_point.value} is not a Collector")
        _check_paths(collector)
        return collector
    raise NotInstalledError(name)


def load_with_probes() -> list[Collector]:
    """Import the collectors that have probes; skip a collector that cannot be imported."""
    found = []
    for entry_point in importlib.metadata.entry_points(group=PROBES):
        try:
            found.append(load(entry_point.name))
        except BaseException as error:
            logger.error("collector {}: its probes are unknown: {!r}", entry_point.name, error)
    return found


def _check_paths(collector: Collector) -> None:
    for path in collector.paths:
        if not (path.startswith("/") and path.endswith("/") and path != "/"):
            raise ValueError(f"paths: expected a name with a slash at both ends, got {path!r}")
    for probe in collector.probes:
        if not probe.startswith(collector.paths):
            raise ValueError(f"probes: expected one below the collector's paths, got {probe!r}")


def _promise(collector: Collector, config: Config) -> float:
    seconds = float(collector.max_age_seconds(config))
    if not seconds > 0:
        raise ValueError(f"max_age_seconds: expected a number above 0, got {seconds}")
    return seconds


def _is_stopping() -> bool:
    """Return whether the task itself is cancelled, not only a wait inside the collector."""
    task = asyncio.current_task()
    return bool(task and task.cancelling())


async def _in_thread(function: Callable[[], T]) -> T:
    """Run a function that raises nothing in a daemon thread of its own.

    An import that hangs then blocks neither the other imports nor the exit of the process.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        result = function()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_settle, future, result)

    threading.Thread(target=work, name="load", daemon=True).start()
    return await future


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
