"""Installed collectors and their variables: what package metadata says, without imports."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from msgspec import structs

from telemetron.collector import ENTRY_POINTS
from telemetron.config import installed
from telemetron.config.settings import load

VARIABLES = list(installed.variables())


def test_the_installed_collectors_have_a_record_of_their_name() -> None:
    records = {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
    assert [*records] == installed.collectors()
    assert all(record.name == name for name, record in records.items())


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_a_variable_sets_a_key_that_its_collector_has(variable: installed.Variable) -> None:
    (point,) = entry_points(group=ENTRY_POINTS, name=variable.collector)
    keys = {field.encode_name for field in structs.fields(point.load().config)}
    assert variable.key in keys


def test_variables_are_found_without_an_import() -> None:
    """kubernetes-asyncio takes most of a second, also of a server that does not use it."""
    environ = {variable.name: "x" for variable in VARIABLES}
    code = f"""
import sys
from telemetron.config.settings import load
assert len(load(None, {environ}).sources) == 4
print([name for name in sys.modules if name.startswith(("telemetron_collectors", "aiokafka"))])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert found.stdout == "[]\n", found.stderr


def test_another_package_brings_a_collector_and_its_variable(site: Path) -> None:
    info = site / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[telemetron.collectors]\nacme-queue = acme:collector\n"
        "[telemetron.variables]\nACME_URL = acme-queue:url\n"
    )
    assert "acme-queue" in load(None, {}).off
    settings = load(None, {"ACME_URL": "http://acme"})
    assert settings.sources["acme-queue"].options == {"url": "http://acme"}
    assert "acme-queue" not in settings.off
