"""The supervisor: runs every collector as a task of its own, and alone judges how it fares."""

import asyncio
import importlib.metadata
from collections.abc import Iterable
from typing import NamedTuple

from loguru import logger
from msgspec import Struct

from telemetron.backoff import Backoff
from telemetron.clock import Clock
from telemetron.collector import ENTRY_POINTS, ASGIApp, Collector, Config, Put
from telemetron.config import ConfigError, SourceSpec, configure
from telemetron.source import Source
from telemetron.store import Store

LOAD_SECONDS = 30.0
STOP_SECONDS = 1.0
# A run that lasted this long was well; the next crash is a first one again.
WELL_SECONDS = 60.0


class NotInstalledError(Exception):
    """No installed package brings the collector."""


class BoundOutput:
    """The `Output` of one source, until its run ends."""

    def __init__(
        self, store: Store, source: Source, collector: Collector, mounts: "Mounts"
    ) -> None:
        self.clock: Clock = store.clock
        self.source = source.name
        self._store = store
        self._source = source
        self._collector = collector
        self._mounts = mounts
        self._open = True

    def put(self, section: str, group: str, id: str, part: Struct, *, scope: str = "") -> None:
        self._guard(section)
        self._store.put(self._source, section, group, id, part, scope)

    def remove(self, section: str, id: str) -> None:
        self._guard(section)
        self._store.remove(self._source, section, id)

    async def replace(self, puts: Iterable[Put], *, scope: str = "") -> None:
        puts = list(puts)
        for section in {put.section for put in puts}:
            self._guard(section)
        await self._store.replace(self._source, puts, scope)

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        self._guard()
        self._source.confirm(scope, reason=reason, message=message)

    def trouble(self, scope: str, reason: str, message: str) -> None:
        self._guard()
        self._source.trouble(scope, reason, message)

    def count(self, event: str, number: int = 1) -> None:
        self._source.events[event] += number

    def mount(self, prefix: str, app: ASGIApp) -> None:
        self._guard()
        if prefix not in self._collector.paths:
            raise ValueError(f"{prefix} is not among the paths of {self._collector.name}")
        self._mounts.add(prefix, app, self._source.name)

    def close(self) -> None:
        """The run has ended; what it left behind writes no more."""
        self._open = False
        self._mounts.remove(self._source.name)

    def _guard(self, section: str | None = None) -> None:
        if not self._open:
            raise RuntimeError("this run has ended; its output is closed")
        if section is not None and section not in self._collector.sections:
            raise ValueError(f"{self._collector.name} does not write {section}")


class Mounts:
    """The HTTP paths of collectors that run, by prefix."""

    def __init__(self) -> None:
        self.apps: dict[str, ASGIApp] = {}
        self.collectors: dict[str, Collector] = {}
        """By prefix, whether it runs or not."""
        self._owners: dict[str, str] = {}

    def add(self, prefix: str, app: ASGIApp, owner: str) -> None:
        if prefix in self.apps:
            raise ValueError(f"{prefix} is answered by source {self._owners[prefix]} already")
        self.apps[prefix] = app
        self._owners[prefix] = owner

    def remove(self, owner: str) -> None:
        for prefix in [prefix for prefix, name in self._owners.items() if name == owner]:
            del self.apps[prefix], self._owners[prefix]


class Loaded(NamedTuple):
    """A collector that is ready to run."""

    collector: Collector
    config: Config
    promise: float


class Supervisor:
    """Every configured source's task; whatever one does, the others and the endpoint go on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.mounts = Mounts()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loads: list[asyncio.Task[Loaded | None]] = []

    def start(self, specs: Iterable[SourceSpec]) -> None:
        """Start each source; none is waited for."""
        for spec in specs:
            source = self.store.add(spec.name, spec.collector)
            source.load(LOAD_SECONDS)
            load = asyncio.create_task(self._load(spec, source))
            task = asyncio.create_task(self._supervise(load, source), name=f"source {spec.name}")
            self._loads.append(load)
            self._tasks[spec.name] = task

    async def loaded(self, timeout: float) -> None:
        """Wait until all sources are imported and configured, or the time is up."""
        if self._loads:
            await asyncio.wait(self._loads, timeout=timeout)

    async def stop(self) -> list[str]:
        """End all; gives the names of those that did not end within a second."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=STOP_SECONDS)
        for source in self.store.sources.values():
            source.stop()
        hanging = [name for name, task in self._tasks.items() if not task.done()]
        if hanging:
            logger.warning("sources that did not stop: {}", ", ".join(hanging))
        return hanging

    async def _load(self, spec: SourceSpec, source: Source) -> Loaded | None:
        """The collector and its configuration; None where that failed, as the source says."""
        try:
            collector = await asyncio.to_thread(load, spec.collector)
            config = await asyncio.to_thread(configure, spec, collector)
            promise = collector.max_age_seconds(config)
        except NotInstalledError:
            source.fail("NotInstalled", f"no installed package brings a collector {spec.collector}")
        except ConfigError as error:
            source.fail("InvalidConfig", str(error))
        except BaseException as error:
            if _cancelled(error):
                raise
            logger.opt(exception=error).error("source {}: cannot be loaded", spec.name)
            source.fail("ImportFailed", f"{type(error).__name__} while {spec.collector} was loaded")
        else:
            self.mounts.collectors |= dict.fromkeys(collector.paths, collector)
            return Loaded(collector, config, promise)
        return None

    async def _supervise(self, load: "asyncio.Task[Loaded | None]", source: Source) -> None:
        """One source, from its import to the end of the process."""
        loaded = await load
        if loaded is None:
            return
        backoff = Backoff(first=1.0, cap=300.0)
        while True:
            started = self.store.clock.monotonic()
            source.start(loaded.promise)
            message = await self._run(source, loaded)
            source.restarts += 1
            if self.store.clock.monotonic() - started > WELL_SECONDS:
                backoff.reset()
            source.fail("Crashed", message)
            await self.store.clock.sleep(backoff.next())

    async def _run(self, source: Source, loaded: Loaded) -> str:
        """One run; gives why it ended, which it never should."""
        output = BoundOutput(self.store, source, loaded.collector, self.mounts)
        try:
            await loaded.collector.run(loaded.config, output)
        except BaseException as error:
            if _cancelled(error):
                raise
            logger.opt(exception=error).error("source {}: its collector crashed", source.name)
            return f"{type(error).__name__} in the collector"
        finally:
            output.close()
        logger.error("source {}: its collector returned", source.name)
        return "the collector returned"


def load(name: str) -> Collector:
    """The collector of this name, imported; raises NotInstalledError and what its import raises."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        collector = entry_point.load()
        if not isinstance(collector, Collector):
            raise TypeError(f"{entry_point.value} is no Collector")
        return collector
    raise NotInstalledError(name)


def _cancelled(error: BaseException) -> bool:
    """Whether the task itself is being stopped, not something inside the collector."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())
