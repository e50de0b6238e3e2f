"""For tests of collectors: a clock that tests advance, and an output that records its calls."""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from msgspec import Struct

from telemetron.clock import Clock
from telemetron.collector import ASGIApp, Put
from telemetron.search import Search


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class FakeTimer:
    """A timer of `FakeClock`."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock(Clock):
    """A clock whose time passes only when `advance` is called."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._start = now
        self._elapsed = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, FakeTimer]] = []

    def now(self) -> datetime:
        return self._start + timedelta(milliseconds=round(self._elapsed * 1000))

    def monotonic(self) -> float:
        return self._elapsed

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> FakeTimer:
        timer = FakeTimer(lambda: callback(*args))
        heapq.heappush(self._timers, (self._elapsed + delay, next(self._order), timer))
        return timer

    async def sleep(self, delay: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self.call_later(delay, _wake, woken)
        await woken

    def advance(self, seconds: float) -> None:
        """Advance the time; call the timers that are due in their order."""
        until = self._elapsed + seconds
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, due)
            if timer.callback:
                timer.callback()
        self._elapsed = until


class RecordingOutput:
    """An `Output` that records its calls: `calls` is a list of (method, arguments…)."""

    def __init__(self, clock: Clock | None = None, source: str = "test") -> None:
        self.clock = clock or FakeClock()
        self.source = source
        self.calls: list[tuple[Any, ...]] = []
        self.parts: dict[tuple[str, str], Any] = {}
        self.mounted: dict[str, ASGIApp] = {}
        self.search: Search | None = None
        self._scopes: dict[tuple[str, str], str] = {}
        self._news = asyncio.Event()

    async def called(self, method: str, times: int = 1) -> tuple[Any, ...]:
        """Wait until the method was called `times` times; return that call."""
        while True:
            calls = [call for call in self.calls if call[0] == method]
            if len(calls) >= times:
                return calls[times - 1]
            self._news.clear()
            await self._news.wait()

    async def until(self, is_true: Callable[[], object]) -> None:
        """Wait until something is true of what was recorded."""
        while not is_true():
            self._news.clear()
            await self._news.wait()

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
        self._record("put", section, group, id, part, scope)
        self.parts[section, id] = part
        self._scopes[section, id] = scope

    def remove(self, section: str, id: str) -> None:
        self._record("remove", section, id)
        self.parts.pop((section, id), None)

    async def replace(self, puts: Iterable[Put], *, scope: str = "") -> None:
        puts = list(puts)
        self._record("replace", puts, scope)
        for at in [at for at in self.parts if self._scopes[at] == scope]:
            del self.parts[at]
        for put in puts:
            self.parts[put.section, put.id] = put.part
            self._scopes[put.section, put.id] = scope

    def expect(self, scopes: Iterable[str]) -> None:
        self._record("expect", list(scopes))

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        self._record("confirm", scope, reason, message)

    def trouble(self, scope: str, reason: str, message: str) -> None:
        self._record("trouble", scope, reason, message)

    def count(self, event: str, number: int = 1) -> None:
        self._record("count", event, number)

    def mount(self, prefix: str, app: ASGIApp) -> None:
        self.mounted[prefix] = app

    def offer(self, search: Search) -> None:
        self._record("offer")
        self.search = search

    def _record(self, *call: Any) -> None:
        self.calls.append(call)
        self._news.set()
