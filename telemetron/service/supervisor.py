"""The supervisor: runs every collector as a task of its own, and alone judges how it fares."""

import asyncio
import importlib.metadata
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from loguru import logger
from msgspec import Struct

from telemetron.backoff import Backoff
from telemetron.clock import Clock
from telemetron.collector import ENTRY_POINTS, ASGIApp, Collector, Config, Put
from telemetron.config.settings import ConfigError, SourceSpec, configure
from telemetron.store.source import Source
from telemetron.store.store import Store

LOAD_SECONDS = 30.0
# Less than the server gives the application to stop, so that it can still be said who did not.
STOP_SECONDS = 0.5
# A run that lasted this long was well; the next crash is a first one again.
WELL_SECONDS = 60.0


T = TypeVar("T")


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
        self._guard()
        puts = list(puts)
        for section in {put.section for put in puts}:
            self._guard(section)
        await self._store.replace(self._source, puts, scope)

    def expect(self, scopes: Iterable[str]) -> None:
        self._guard()
        self._source.expect(scopes)

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
    address: str | None


class Failed(NamedTuple):
    """Why a source cannot run."""

    reason: str
    message: str


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

    async def loaded(self, timeout: float | None) -> None:
        """Wait until all sources are imported and configured, or the time, if any, is up."""
        if self._loads:
            await asyncio.wait(self._loads, timeout=timeout)

    async def stop(self) -> list[str]:
        """End all; gives the names of those that did not end in time."""
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
        prepared = await _in_thread(lambda: prepare(spec))
        if isinstance(prepared, Failed):
            source.fail(*prepared)
            return None
        self.mounts.collectors |= dict.fromkeys(prepared.collector.paths, prepared.collector)
        return prepared

    async def _supervise(self, load: "asyncio.Task[Loaded | None]", source: Source) -> None:
        """One source, from its import to the end of the process."""
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
            if isinstance(error, asyncio.CancelledError) and _is_stopping():
                raise
            logger.opt(exception=error).error("source {}: its collector crashed", source.name)
            return f"{type(error).__name__} in the collector"
        finally:
            output.close()
        if not _is_stopping():
            logger.error("source {}: its collector returned", source.name)
        return "the collector returned"


def prepare(spec: SourceSpec) -> Loaded | Failed:
    """Import and configure the source's collector; for a thread, as it takes its time."""
    try:
        collector = load(spec.collector)
        config = configure(spec, collector)
        return Loaded(collector, config, _promise(collector, config), collector.address(config))
    except NotInstalledError:
        return Failed("NotInstalled", f"no installed package brings a collector {spec.collector}")
    except ConfigError as error:
        return Failed("InvalidConfig", str(error))
    except BaseException as error:
        logger.opt(exception=error).error("source {}: cannot be loaded", spec.name)
        message = f"{type(error).__name__} while {spec.collector} was loaded"
        return Failed("ImportFailed", message)


def load(name: str) -> Collector:
    """The collector of this name, imported; raises NotInstalledError and what its import raises."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        collector = entry_point.load()
        if not isinstance(collector, Collector):
            raise TypeError(f"{entry_point.value} is no Collector")
        for path in collector.paths:
            if not (path.startswith("/") and path.endswith("/") and path != "/"):
                raise ValueError(f"{path!r} has no slash at both ends, or nothing between them")
        return collector
    raise NotInstalledError(name)


def _promise(collector: Collector, config: Config) -> float:
    seconds = float(collector.max_age_seconds(config))
    if not seconds > 0:
        raise ValueError(f"max_age_seconds is {seconds}")
    return seconds


def _is_stopping() -> bool:
    """Whether the task itself is cancelled, not something inside the collector."""
    task = asyncio.current_task()
    return bool(task and task.cancelling())


async def _in_thread(function: Callable[[], T]) -> T:
    """Run it in a daemon thread of its own; it raises nothing.

    An import that hangs takes no thread from the others, and does not hold up the process's end.
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
