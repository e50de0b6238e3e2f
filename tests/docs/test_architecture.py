"""The architecture page begins with a picture, names every room, and says where a change goes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
SOURCES = ("telemetron", "collectors/telemetron_collectors", "sdk/telemetron_agent", "bench")
FOLDERS = ("sdk", "tests", "tests/real", "deploy", "examples")
CHANGES = ("A new field of a pod", "A new query parameter", "A new reason", "A new collector")


def rooms() -> list[str]:
    """Return the packages of all sources, except those that only hold others."""
    found = [file.parent for source in SOURCES for file in (ROOT / source).rglob("__init__.py")]
    return sorted(
        str(room.relative_to(ROOT))
        for room in found
        if {*room.glob("*.py")} != {room / "__init__.py"}
    )


@pytest.mark.parametrize("room", [*rooms(), *FOLDERS])
def test_each_room_is_named(room: str) -> None:
    within_a_collector = f"`{Path(room).name}/`"
    assert f"](../{room})" in PAGE or within_a_collector in PAGE


def test_the_page_begins_with_a_picture() -> None:
    assert PAGE.index("```mermaid") < PAGE.index("\n## ")


@pytest.mark.parametrize("change", CHANGES)
def test_the_page_says_where_a_change_goes(change: str) -> None:
    assert re.search(rf"^### {change}\b", PAGE, re.MULTILINE)


def test_each_named_file_exists() -> None:
    named = set(re.findall(r"`([\w./-]+/[\w-]+\.\w+)`", PAGE))
    written = [name for name in named if "NAME" not in name]  # NAME is the reader's own
    assert [name for name in written if not (ROOT / name).exists()] == []
