"""A play: one scenario from its healthy beginning to the judgement."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from signal import Signals
from typing import Any

import msgspec
from msgspec import Struct, field

from tests.real.incidents import evidence, verdict
from tests.real.incidents.catalog import SCENARIOS, Scenario
from tests.real.incidents.scenario import SHOWN_SECONDS
from tests.real.incidents.scenarios import noise
from tests.real.incidents.service import Object
from tests.real.incidents.view import View
from tests.real.incidents.world import World

CALM_SECONDS = 15.0
"""The right answer has to last so long."""
PATIENCE_SECONDS = 90.0
"""It may take so long from when the document shows the incident."""
DECOY_SECONDS = 70.0
"""Nothing may be raised for so long."""
TOLD_SECONDS = 15.0
"""Events may come so much later than the document shows it."""
END_SECONDS = 60.0
"""What was told has to be resolved so long after its cause is mended."""
RESTART_SECONDS = 120.0
"""It may take so long after a restart of Telemetron."""


class Run(Struct, frozen=True):
    """What is played, and how."""

    name: str
    noise: bool = False
    restart: str | None = None
    """The signal by which Telemetron ends in the middle of the incident, as `SIGKILL`."""
    history: bool = False
    """Whether Telemetron has a history file."""

    def __str__(self) -> str:
        return "-".join(
            filter(None, (self.name, "noise" * self.noise, self.restart, "history" * self.history))
        )


class Report(Struct):
    """What came of it."""

    run: Run
    faults: list[str] = []
    """What is wrong, in sentences; nothing is, if it is empty."""
    findings: list[Any] = []
    course: list[str] = []
    """What was wrong on the way, with the seconds since the document showed the incident."""
    early: list[str] = []
    """Effects that were told before their root was known."""
    bytes: int = 0
    """The size of `/system/state/findings`."""
    seconds: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """Return the faults with the story and the findings."""
        faults = "\n".join(f"- {fault}" for fault in self.faults)
        told = "\n".join(f"{verdict.title(one)}: {one['summary']}" for one in self.findings)
        return f"{self.run}: {SCENARIOS[self.run.name].story}\n{faults}\nfindings:\n{told}"


@asynccontextmanager
async def playing(
    scenario: Scenario, port: int | None = None, has_history: bool = False
) -> AsyncIterator[World]:
    """A healthy world for a scenario, ended with the context."""
    world = World(scenario.name, port, has_history)
    try:
        if scenario.setup:
            scenario.setup(world)
        await world.start()
        await world.settle()
        yield world
    finally:
        await world.stop()


async def play(run: Run) -> Report:
    """Play it and judge the findings."""
    began = time.monotonic()
    async with playing(SCENARIOS[run.name], has_history=run.history) as world:
        stage = Stage(world, run)
        stage.report.seconds["healthy"] = time.monotonic() - began
        await stage.play()
        stage.report.seconds["whole"] = time.monotonic() - began
    return stage.report


class Stage:
    """A world, the scenario that is played in it, and the report on it."""

    def __init__(self, world: World, run: Run) -> None:
        self.world, self.run = world, run
        self.scenario = SCENARIOS[run.name]
        self.report = Report(run)
        self._noted = ""

    async def play(self) -> None:
        """Play it, until the document shows it; then judge."""
        began = time.monotonic()
        if missing := await self.begin():
            self.report.faults = [f"the document does not show: {what}" for what in missing]
            return
        self.report.seconds["shown"] = time.monotonic() - began
        self.report.seconds["right"] = await self.judge(PATIENCE_SECONDS)
        if self.run.restart and not self.report.faults:
            await self.restart(Signals[self.run.restart])
        if not self.report.faults:
            self.report.faults = await self.judge_events()
            self.report.early = verdict.early_effects(self.world.inbox, self.scenario)
        if not self.report.faults and self.scenario.end:
            await self.end(self.scenario.end)

    async def judge_events(self) -> list[str]:
        """Return what is wrong with the events of the webhook, once all have come."""
        began = time.monotonic()
        while True:
            await self.look()
            faults = verdict.event_faults(self.world.inbox, self.report.findings, self.scenario)
            if not faults or time.monotonic() - began > TOLD_SECONDS:
                return faults
            await self.world.tick()

    async def end(self, mend: Callable[[World], None]) -> None:
        """Mend the cause: every finding that was told is resolved."""
        mend(self.world)
        began = time.monotonic()
        while self.world.inbox.open and time.monotonic() - began < END_SECONDS:
            await self.world.tick()
        self.report.seconds["resolved"] = time.monotonic() - began
        self.report.faults = [
            f"{verdict.title(one)} is not resolved" for one in self.world.inbox.open.values()
        ]

    async def begin(self) -> list[str]:
        """Play the scenario; return what the document has not shown in time."""
        world = self.world
        if self.run.noise:
            await noise.make(world)
            await world.run(2)
        await self.scenario.play(world)
        self.scenario = self.scenario.resolved(world.facts)
        missing = [*world.shown]

        def is_shown(view: View) -> bool:
            missing[:] = world.missing(view)
            return not missing

        await world.until(is_shown, SHOWN_SECONDS)
        return missing

    async def judge(self, patience: float) -> float:
        """Wait for the right findings to last; a decoy has to stay quiet all the time.

        Return after how many seconds they were right.
        """
        began, since = time.monotonic(), None
        while True:
            now = time.monotonic()
            self.report.faults = await self.look()
            self._note(now - began)
            since = None if self.report.faults else since or now
            if self._is_over(now - began, since and now - since, patience):
                break
            await self.world.tick()
        return (since or now) - began

    def _note(self, passed: float) -> None:
        """Keep what is wrong if it differs from what was wrong last."""
        faults = "; ".join(self.report.faults)
        if faults != self._noted:
            self._noted = faults
            self.report.course.append(f"{passed:.0f} s: {faults or 'right'}")

    def _is_over(self, passed: float, calm: float | None, patience: float) -> bool:
        if self.scenario.is_alarm:
            return passed > patience or (calm is not None and calm >= CALM_SECONDS)
        is_quiet = not verdict.alarms(self.report.findings)
        return passed > DECOY_SECONDS or not is_quiet

    async def look(self) -> list[str]:
        """Return what is wrong with the findings now."""
        service, report = self.world.service, self.report
        body = await service.get("/system/state/findings")
        report.bytes = len(body)
        report.findings = msgspec.json.decode(body)["findings"]
        faults = verdict.faults(report.findings, self.scenario)
        return faults or await evidence.errors(service)

    async def restart(self, by: Signals) -> None:
        """End Telemetron and start it again: it must raise the same findings, as old as before."""
        before = sinces(self.report.findings)
        await self.world.service.end(by)
        await self.world.service.start()
        self.report.seconds["right again"] = await self.judge(RESTART_SECONDS)
        after = sinces(self.report.findings)
        self.report.faults += [
            f"{key} began {since}, and after the restart {after.get(key)}"
            for key, since in before.items()
            if after.get(key) != since
        ]


def sinces(findings: list[Object]) -> dict[str, str]:
    """Return when each alarm began, by its key."""
    return {one["key"]: one["since"] for one in verdict.alarms(findings)}
