"""The skill for agents: a valid file that names only existing tools and arguments."""

import re
from pathlib import Path

import yaml

from telemetron.mcp.tools import TOOLS

SKILL = Path(__file__).parents[2] / "examples" / "skill" / "SKILL.md"
NAMES = {tool.name for tool in TOOLS}
ARGUMENTS = {name for tool in TOOLS for name in tool.schema["properties"]}
WORDS = {"cut", "next", "ok", "off", "unknown", "15m", "QUEUE/PARTITION/OFFSET"}
"""Code of the page that is an answer's, or a value."""


def test_its_head_says_when_to_use_it() -> None:
    _, head, text = SKILL.read_text("utf-8").split("---\n", 2)
    said = yaml.safe_load(head)
    assert said.keys() == {"name", "description"}
    assert len(said["description"]) < 1_024
    assert text.strip()


def test_it_names_all_tools_and_nothing_else() -> None:
    named = set(re.findall(r"`([^`]+)`", SKILL.read_text("utf-8")))
    assert named >= NAMES
    assert {one for one in named if not one.startswith("{")} <= NAMES | ARGUMENTS | WORDS
