"""Rules of installed packages, and the first round."""

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from telemetron.diagnosis.collector import collector, installed
from telemetron.diagnosis.rules import RULES
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.service.supervisor import Supervisor
from telemetron.store.store import Store
from telemetron.testing import FakeClock

MODULE = """
from telemetron.diagnosis.rule import Rule

mine = Rule("Mine", "queues", "info", 0, 0, "", "", "", lambda queue, view: iter(()))
taken = mine._replace(name="NoConsumers")
other = "no rule"
"""


@pytest.fixture
def install(site: Path) -> Callable[[str], None]:
    """`install("NAME = MODULE:ATTRIBUTE")`: a package with this entry point."""

    def install(point: str) -> None:
        info = site / "mine-1.0.0.dist-info"
        info.mkdir()
        (site / "mine_rules.py").write_text(MODULE)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0.0\n")
        (info / "entry_points.txt").write_text(f"[telemetron.rules]\n{point}\n")
        importlib.invalidate_caches()

    return install


def test_a_rule_of_an_installed_package_is_added(install: Callable[[str], None]) -> None:
    install("Mine = mine_rules:mine")
    assert installed().keys() - RULES.keys() == {"Mine"}


@pytest.mark.parametrize("name", ["mine_rules:taken", "mine_rules:other", "mine_rules:missing"])
def test_a_rule_that_cannot_be_used_is_left_out(
    install: Callable[[str], None], logged: list[str], name: str
) -> None:
    install(f"Mine = {name}")
    assert installed() == RULES
    assert any("rule Mine cannot be imported" in line for line in logged) is ("missing" in name)


async def test_the_source_is_ok_after_its_first_round() -> None:
    store, diagnosed = Store("test", FakeClock()), asyncio.Event()
    supervisor = Supervisor(store)
    supervisor.start_own(collector(store, diagnosed), FindingsSettings())
    await asyncio.wait_for(diagnosed.wait(), 20)
    assert store.sources["findings"].status == "ok"
    await supervisor.stop()
