"""The glossary explains each coined word once, in one line, and its readers find it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", GLOSSARY, re.MULTILINE)
WORDS = [word for cell, _ in ROWS for word in cell.split(", ")]
COINED = [
    "changeset",
    "document",
    "entity",
    "epoch",
    "flush",
    "group",
    "keyframe",
    "measure",
    "part",
    "place",
    "promise",
    "publication",
    "revision",
    "rope",
    "scope",
    "section",
    "snapshot",
    "source",
    "step",
]


@pytest.mark.parametrize("word", COINED)
def test_each_coined_word_is_explained_once(word: str) -> None:
    assert WORDS.count(word) == 1


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_glossary_is_linked(page: str) -> None:
    assert "glossary.md)" in (ROOT / page).read_text("utf-8")


def test_a_bold_word_of_the_architecture_is_in_the_glossary() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    bold = set(re.findall(r"\*\*([a-z ]+)\*\*", page))
    assert bold - {*WORDS} == set()
