"""A register with a fake clock and an output that records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from telemetron.agents import AgentPart
from telemetron.testing import FakeClock, FakeTimer, RecordingOutput
from telemetron_collectors.heartbeats.beat import Beat
from telemetron_collectors.heartbeats.register import LIMITS, Register, RegisterLimits

HOUR = 3600.0
START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock(FakeClock):
    """Counts the timers that were set, and the pending ones."""

    def __init__(self) -> None:
        super().__init__(START)
        self.set = 0
        self._pending: list[FakeTimer] = []

    def call_later(self, delay: float, callback: Any, *args: Any) -> FakeTimer:
        def ring() -> None:
            timer.cancel()
            callback(*args)

        timer = super().call_later(delay, ring)
        self.set += 1
        self._pending.append(timer)
        return timer

    def waiting(self) -> int:
        self._pending = [timer for timer in self._pending if timer.callback]
        return len(self._pending)


class Bench:
    """A register, and the shortest way to talk to it."""

    def __init__(
        self,
        stall_after: float = 300.0,
        forget_after: float = HOUR,
        limits: RegisterLimits = LIMITS,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.output = RecordingOutput(self.clock)
        self.register = Register(
            self.output, stall_after=stall_after, forget_after=forget_after, limits=limits
        )

    def beat(self, name: str = "planner", instance: str = "i", **fields: Any) -> None:
        self.register.beat(name, msgspec.convert({"instance": instance, **fields}, Beat))

    def after(self, seconds: float, **fields: Any) -> None:
        self.clock.advance(seconds)
        self.beat(**fields)

    @property
    def parts(self) -> list[AgentPart]:
        return [msgspec.convert(part, AgentPart) for part in self.output.parts.values()]

    @property
    def part(self) -> AgentPart:
        (part,) = self.parts
        return part

    @property
    def status(self) -> str:
        assert self.part.instance
        return self.part.instance.status

    def counted(self, event: str) -> int:
        return sum(call[2] for call in self.output.calls if call[:2] == ("count", event))

    @property
    def puts(self) -> int:
        return sum(call[0] == "put" for call in self.output.calls)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def tasks(*ids: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": id, **fields} for id in ids]


def shown(bench: Bench) -> list[str]:
    return [task.id for task in bench.part.tasks]
