"""The docs name every key, variable, command, path, metric and reason."""

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from telemetron.cli import commands as cli
from telemetron.collector import ENTRY_POINTS
from telemetron.config import installed
from telemetron.config import settings as config
from telemetron.document import State
from telemetron.reason import REASONS

DOCS = Path(__file__).parents[2] / "docs"


def page(name):
    return (DOCS / name).read_text("utf-8")


def collectors():
    return [point.load() for point in entry_points(group=ENTRY_POINTS)]


def keys(struct):
    """Yield every key of a configuration type and of the types within it."""
    for field in msgspec.structs.fields(struct):
        yield field.encode_name
        for inner in structs(field.type):
            if inner is not config.SourceSpec:
                yield from keys(inner)


def structs(hint):
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [one for argument in get_args(hint) for one in structs(argument)]


@pytest.mark.parametrize("key", sorted(set(keys(config.Settings))))
def test_each_configuration_key(key):
    assert re.search(rf"\b{key}\b", page("configuration.md"))


def test_each_key_of_each_collector():
    found = [(one.name, key) for one in collectors() for key in keys(one.config)]
    assert found
    for name, key in found:
        assert f"`{key}`" in page("configuration.md"), f"{name}: {key}"


@pytest.mark.parametrize(
    "variable", [*config.ENVIRONMENT, *(one.name for one in installed.variables())]
)
def test_each_environment_variable(variable):
    assert f"`{variable}`" in page("configuration.md")


def test_each_command_and_its_options():
    text = page("configuration.md")
    for name, command in cli.main.commands.items():
        assert f"telemetron {name}" in text
        for option in command.params:
            assert option.opts[0] in text, f"telemetron {name} {option.opts[0]}"


async def test_each_endpoint(live):
    paths = (await live.client.get("/openapi.json")).json()["paths"]
    assert "/system/state" in paths
    for path in paths:
        assert path in page("http.md")


async def test_each_metric(live):
    lines = (await live.client.get("/metrics")).text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert "telemetron_state_revision" in names
    for name in names:
        assert f"`{name}" in page("metrics.md"), name


def test_each_reason_with_its_meaning():
    for reason, meaning in REASONS.items():
        (row,) = [line for line in page("document.md").splitlines() if f"| `{reason}` |" in line]
        assert row == f"| `{reason}` | {meaning} |"


@pytest.mark.parametrize("field", State.__struct_fields__)
def test_each_part_of_the_document(field):
    assert f"`{field}`" in page("document.md")


def test_each_page_is_reached_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    for file in DOCS.glob("*.md"):
        assert f"(docs/{file.name})" in readme, file.name
