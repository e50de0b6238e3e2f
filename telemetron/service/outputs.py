"""Outputs: what a run of a collector writes with, and the HTTP paths that collectors answer."""

import re
from collections.abc import Iterable

from msgspec import Struct

from telemetron.clock import Clock
from telemetron.collector import ASGIApp, Collector, Put
from telemetron.search import Search
from telemetron.service.searches import Searches
from telemetron.store.source import Source
from telemetron.store.store import Store

_PLACEHOLDER = re.compile(r"\\\{\w+\\\}")


class Mounts:
    """The HTTP paths of the collectors, and the applications that answer them now."""

    def __init__(self) -> None:
        self.apps: dict[str, ASGIApp] = {}
        """By prefix, while a source of the collector runs."""
        self.collectors: dict[str, Collector] = {}
        """By prefix: each loaded collector that takes requests."""
        self.probing: dict[str, Collector] = {}
        """By name: each collector that has probes, whether or not a source uses it."""
        self._probes: list[tuple[re.Pattern[str], str]] = []
        self._owners: dict[str, str] = {}

    def register(self, collector: Collector) -> None:
        """Reserve the paths of a collector that a source uses."""
        self.collectors |= dict.fromkeys(collector.paths, collector)
        self.register_probes(collector)

    def register_probes(self, collector: Collector) -> None:
        """Reserve only the probes of a collector."""
        if not collector.probes or collector.name in self.probing:
            return
        self.probing[collector.name] = collector
        for template in collector.probes:
            prefix = next(path for path in collector.paths if template.startswith(path))
            # A name may contain slashes: some proxies decode %2F.
            pattern = _PLACEHOLDER.sub("[^/].*", re.escape(template))
            self._probes.append((re.compile(pattern), prefix))

    @property
    def probes(self) -> dict[str, str]:
        """Return one line about each probe, by its path."""
        return {path: about for one in self.probing.values() for path, about in one.probes.items()}

    def probe(self, path: str) -> str | None:
        """Return the prefix of the collector whose probe the path is; None if it is no probe."""
        for pattern, prefix in self._probes:
            if pattern.fullmatch(path):
                return prefix
        return None

    def add(self, prefix: str, app: ASGIApp, owner: str) -> None:
        """Let the application of the source `owner` answer below the prefix."""
        if prefix in self.apps:
            raise ValueError(f"source {self._owners[prefix]} answers {prefix} already")
        self.apps[prefix] = app
        self._owners[prefix] = owner

    def remove(self, owner: str) -> None:
        """Remove the applications of a source whose run has ended."""
        for prefix in [prefix for prefix, name in self._owners.items() if name == owner]:
            del self.apps[prefix], self._owners[prefix]


class BoundOutput:
    """The `Output` of one run of one source; it refuses every call once the run has ended."""

    def __init__(
        self,
        store: Store,
        source: Source,
        collector: Collector,
        mounts: Mounts,
        searches: Searches | None = None,
    ) -> None:
        self.clock: Clock = store.clock
        self.source = source.name
        self._store = store
        self._source = source
        self._collector = collector
        self._mounts = mounts
        self._searches = searches or Searches()
        self._open = True

    def put(
        self,
        section: str,
        group: str,
        id: str,
        part: Struct,
        *,
        scope: str = "",
        is_checked: bool = False,
    ) -> None:
        self._check(section)
        self._store.put(self._source, section, group, id, part, scope, is_checked)

    def remove(self, section: str, id: str) -> None:
        self._check(section)
        self._store.remove(self._source, section, id)

    async def replace(self, puts: Iterable[Put], *, scope: str = "") -> None:
        self._check()
        puts = list(puts)
        for section in {put.section for put in puts}:
            self._check(section)
        await self._store.replace(self._source, puts, scope)

    def expect(self, scopes: Iterable[str]) -> None:
        self._check()
        self._source.expect(scopes)

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        self._check()
        self._source.confirm(scope, reason=reason, message=message)

    def trouble(self, scope: str, reason: str, message: str) -> None:
        self._check()
        self._source.trouble(scope, reason, message)

    def count(self, event: str, number: int = 1) -> None:
        self._source.events[event] += number

    def mount(self, prefix: str, app: ASGIApp) -> None:
        self._check()
        if prefix not in self._collector.paths:
            raise ValueError(f"{prefix} is not among the paths of {self._collector.name}")
        self._mounts.add(prefix, app, self._source.name)

    def offer(self, search: Search) -> None:
        self._check()
        self._searches.add(self._source.name, search)

    def close(self) -> None:
        """End the run: tasks that it left behind can no longer write."""
        self._open = False
        self._mounts.remove(self._source.name)
        self._searches.remove(self._source.name)

    def _check(self, section: str | None = None) -> None:
        """Raise if the run has ended, or if the collector does not declare the section."""
        if not self._open:
            raise RuntimeError("this run has ended; its output is closed")
        if section is not None and section not in self._collector.sections:
            raise ValueError(f"{self._collector.name} does not write {section}")
