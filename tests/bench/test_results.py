"""The page of results is made from the kept figures; docs quote only figures that it has."""

import re
from pathlib import Path

import pytest

from bench import results
from bench.report import at_least, at_most, figure
from bench.results import Run, load, page, replaced

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURE = re.compile(r"\d[\d,.]*\d* (?:µs|ms|s|MB|MiB|KiB|cores|×|%)(?![\w])")


def run(day: int, python: str = "3.13.0") -> Run:
    return Run(f"2030-01-0{day} 12:00", f"c{day}", python, "a machine", 0.5)


def test_the_page_is_made_from_the_figures() -> None:
    message = "run `python -m bench --render`; nobody edits bench/RESULTS.md"
    assert results.PAGE.read_text("utf-8") == page(load()), message


def test_a_new_figure_replaces_the_old_one_and_keeps_its_value() -> None:
    figures = replaced([], "reads", run(1), [at_least("a", 1.234, 1.3, "×"), figure("b", 2, "ms")])
    figures = replaced(figures, "beats", run(1), [figure("a", 7, "ms")])
    for day in range(2, 7):
        figures = replaced(figures, "reads", run(day), [at_least("a", day, 1.3, "×", "of 5")])
    shown = page(figures)
    assert (
        "| a | 6 × (of 5) | ≥ 1.3 × | yes | 5 (2030-01-05), 4 (2030-01-04), 3 (2030-01-03) |"
        in shown
    )
    assert "| b |" not in shown  # it is no longer measured
    assert "| a | 7 ms | | | |" in shown


def test_each_python_has_a_table_of_its_own() -> None:
    figures = replaced([], "reads", run(1, "3.11.7"), [at_most("a", 2.5, 3, "ms")])
    figures = replaced(figures, "reads", run(2), [at_most("a", 1.5, 3, "ms")])
    shown = page(figures)
    newer, older = shown.index("| a | 1.5 ms |"), shown.index("| a | 2.5 ms |")
    assert shown.index("Python 3.13.0, 2030-01-02") < newer < shown.index("Python 3.11.7") < older


def test_the_page_begins_with_the_goals_that_do_not_hold() -> None:
    rows = [at_most("a", 1.2345, 1, "ms"), at_least("b", 12345, 10_000, "/s")]
    shown = page(replaced([], "reads", run(1), rows))
    assert (
        "1 of 2 goals hold.\nMissed:\n\n- Reads: a: 1.23 ms, goal ≤ 1 ms (Python 3.13)\n" in shown
    )
    assert "| b | 12,300 /s | ≥ 10,000 /s | yes | |" in shown


def test_two_figures_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two figures 'a'"):
        replaced([], "reads", run(1), [figure("a", 1, "ms"), figure("a", 2, "ms")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_docs_quote_figures_of_the_page(path: Path) -> None:
    """A paragraph or item that links to the results quotes only their values and goals.

    So does the table below it.
    """
    shown = results.PAGE.read_text("utf-8")
    for paragraph in re.split(r"\n\n(?!\|)|\n(?=- )", path.read_text("utf-8")):
        if "bench/RESULTS.md" in paragraph:
            assert [one for one in FIGURE.findall(paragraph) if one not in shown] == []
