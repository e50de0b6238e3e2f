"""The source `findings`: rules of installed packages, and what happens if one of them is broken."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetron.diagnosis.collector import installed
from telemetron.diagnosis.rules import RULES
from tests.telemetron.diagnosis.system import System

MODULE = """
from telemetron.diagnosis.rule import Place, Rule, Symptom

def find(entity, view):
    {body}

rule = Rule(
    name="TooHot", section="queues", severity="warning", hold_seconds=5, clear_seconds=5,
    looks_at="depth", means="Too much waits.", action="Wait.", find=find,
)
"""
FINDS = """
    if entity.depth and entity.depth > 6:
        places = [Place("queues", entity.key, "depth")]
        yield Symptom("TooHot", "queues", entity.key, f"{entity.name} is hot", places)
"""

Install = Callable[..., None]


@pytest.fixture
def install(site: Path) -> Iterator[Install]:
    """Installs a rule as a package manager does: a module and its metadata."""
    names = []

    def install(body: str = FINDS, *, name: str = "TooHot", object: str = "rule") -> None:
        module = f"rules_{len(names)}"
        (site / f"{module}.py").write_text(MODULE.format(body=body.strip()))
        info = site / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[telemetron.rules]\n{name} = {module}:{object}\n")
        importlib.invalidate_caches()
        names.append(module)

    yield install
    for name in names:
        sys.modules.pop(name, None)


async def test_a_rule_of_an_installed_package_is_applied(install: Install) -> None:
    install()
    async with System() as system:
        system.queue("q", depth=7)
        assert await system.after(4) == []
        (finding,) = await system.after(3)
        assert (finding.rule, finding.severity, finding.root.key) == (
            "TooHot",
            "warning",
            "kafka/q/g",
        )
        assert [(one.path, one.value) for one in finding.evidence] == [("depth", 7)]
        system.queue("q", depth=6)
        assert await system.after(7) == []


async def test_a_rule_of_an_installed_package_takes_the_configuration(install: Install) -> None:
    install()
    async with System(rules={"TooHot": {"hold_seconds": 1, "severity": "critical"}}) as system:
        system.queue("q", depth=7)
        (finding,) = await system.after(2)
        assert (finding.rule, finding.severity) == ("TooHot", "critical")
    async with System(rules={"TooHot": "off"}) as system:
        system.queue("q", depth=7)
        assert await system.after(10) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"object": "not_there"}, "rule TooHot cannot be imported"),
        ({"object": "find"}, "rule TooHot is left out: rules_0:find is no Rule of this name"),
        ({"name": "TooCold"}, "rule TooCold is left out: rules_0:rule is no Rule of this name"),
    ],
)
def test_a_broken_rule_is_left_out_and_logged(
    install: Install, logged: list[str], fault: dict[str, str], said: str
) -> None:
    install(**fault)
    assert installed() == RULES
    (line,) = logged
    assert line.startswith(f"ERROR telemetron.diagnosis.collector: {said}")


def test_of_two_rules_of_one_name_the_first_is_applied(install: Install, logged: list[str]) -> None:
    install()
    install()
    assert [*installed()] == [*RULES, "TooHot"]
    (line,) = logged
    assert "rule TooHot is left out: there is a rule of this name already" in line


async def test_a_rule_that_raises_hurts_nothing_else(install: Install, logged: list[str]) -> None:
    install("raise ValueError('hunter2')\n    yield")
    async with System() as system:
        system.queue("q", depth=7, consumers=0)
        (finding,) = await system.after(20)
        assert finding.rule == "NoConsumers"
        assert system.store.sources["findings"].status == "ok"
    assert any("rule TooHot failed" in line for line in logged)


CRASHES = "if entity.depth == 7:\n        raise BaseException\n    yield from ()"


async def until(system: System, status: str) -> None:
    """Let time pass until the source `findings` has this status."""
    async with asyncio.timeout(30):
        while system.store.sources["findings"].status != status:
            await system.after(1)
            await asyncio.sleep(0.001)  # a thread looks for installed rules


async def test_a_crash_makes_the_source_failing_and_everything_else_goes_on(
    install: Install, logged: list[str]
) -> None:
    install(CRASHES)
    async with System() as system:
        system.queue("idle", depth=5, consumers=0)
        assert [one.rule for one in await system.after(20)] == ["NoConsumers"]
        system.queue("q", depth=7)
        await until(system, "failing")
        (problem,) = system.store.sources["findings"].row().problems
        assert (problem.reason, problem.message) == ("Crashed", "BaseException in the collector")
        system.queue("other", depth=1)
        await system.settle()
        assert [queue.name for queue in system.state.queues] == ["idle", "other", "q"]
        assert {one.status for name, one in system.store.sources.items() if name != "findings"} == {
            "ok"
        }


async def test_after_a_crash_what_lasts_stays_and_what_is_over_goes(install: Install) -> None:
    install(CRASHES)
    async with System() as system:
        system.queue("gone", depth=5, consumers=0)
        system.queue("idle", depth=5, consumers=0)
        before = await system.after(20)
        assert [one.root.key for one in before] == ["kafka/gone/g", "kafka/idle/g"]
        system.queue("q", depth=7)
        await until(system, "failing")
        assert {one.key for one in system.findings} == {one.key for one in before}
        system.queue("q", depth=0)
        system.queue("gone", depth=0)
        await system.settle()
        await until(system, "ok")
        await system.settle()
        (finding,) = system.findings
        assert (finding.key, finding.rank) == (before[1].key, 1)
        assert finding.raised_at == before[1].raised_at
        system.queue("idle", depth=0)
        assert await system.after(20) == []
