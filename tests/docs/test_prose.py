"""The project's prose keeps the phrases below their ceilings, and the counter finds them."""

from collections import Counter
from pathlib import Path

import pytest

from tests.docs.prose import PHRASES, Finding, Phrase, files, findings, prose, rate_of, words


@pytest.fixture(scope="module")
def total() -> int:
    return sum(words(prose(file)) for file in files())


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return [finding for file in files() for finding in findings(file)]


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.name)
def test_a_phrase_is_rare(phrase: Phrase, found: list[Finding], total: int) -> None:
    places = [str(finding) for finding in found if finding.phrase == phrase.name]
    better = f"better: {phrase.instead}"
    assert rate_of(phrase, found, total) <= phrase.ceiling, "\n".join([better, *places])


PYTHON = '''\
"""One that stands alone."""

import os  # what is kept

NAME = "alone"  # one word: a name, not prose


def run():
    """Return the text.

    Nobody tells it anew.
    """
    raise ValueError(f"refused, where the file is {os.sep}")
'''
MARKDOWN = """\
# What is new

```sh
nobody stands alone
```

It stands.
"""


def test_python_is_read_by_its_strings_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(PYTHON)
    places = Counter((finding.phrase, finding.line) for finding in findings(file))
    assert places == Counter(
        [
            ("who", 1),
            ("stands", 1),
            ("alone", 1),
            ("what-is", 3),
            ("nobody", 11),
            ("told", 11),
            ("anew", 11),
            ("where-if", 13),
        ]
    )


def test_examples_in_markdown_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(MARKDOWN)
    assert [(finding.phrase, finding.line) for finding in findings(file)] == [
        ("what-is", 1),
        ("stands", 7),
    ]


def test_words_are_counted_without_code(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(MARKDOWN)
    assert words(prose(file)) == 5


def test_tests_and_generated_folders_are_not_read() -> None:
    parts = {part for file in files() for part in file.relative_to(Path(__file__).parents[2]).parts}
    assert {"telemetron", "telemetron_collectors", "telemetron_agent", "README.md"} <= parts
    assert parts & {"tests", "build", "dist", ".venv"} == set()
