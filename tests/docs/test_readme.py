"""The README is short, and begins with a command to run."""

from pathlib import Path

from markdown_it import MarkdownIt

README = Path(__file__).parents[2] / "README.md"


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 120


def test_the_first_command_is_near_the_top() -> None:
    blocks = [t for t in MarkdownIt().parse(README.read_text("utf-8")) if t.type == "fence"]
    assert blocks[0].map is not None
    line = blocks[0].map[0] + 2  # map counts from 0, and the fence precedes the command
    assert line < 25
    assert blocks[0].content.startswith(("make ", "pip install "))
