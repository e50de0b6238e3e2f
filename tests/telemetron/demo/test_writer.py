"""The writer's report."""

from collections.abc import Callable
from pathlib import Path

from telemetron.demo import writer
from telemetron.demo.worker import AgentWorker


def finding(title: str, number: int, sentence: str = "So it is.") -> dict[str, object]:
    return {
        "id": f"write-1.{number}",
        "parent_id": "plan-1",
        "title": title,
        "number": number,
        "statistics": {"words": 3, "sentence_length": 3.0},
        "key_words": ["x", "y"],
        "summary": [sentence],
    }


def test_the_report_is_sorted() -> None:
    assert writer.compose([finding("B", 1), finding("A", 2), finding("A", 1)]).splitlines() == [
        "# What the texts say",
        "",
        "## A",
        "",
        "1. So it is. (3 words, 3.0 in a sentence; about x, y)",
        "",
        "2. So it is. (3 words, 3.0 in a sentence; about x, y)",
        "",
        "## B",
        "",
        "1. So it is. (3 words, 3.0 in a sentence; about x, y)",
    ]


def test_the_report_keeps_what_is_new(worker: Callable[..., AgentWorker], tmp_path: Path) -> None:
    editor, findings = worker("writer"), {}
    for number in range(writer.MAX_FINDINGS + 5):
        writer.write(editor, finding("A", number), findings)
    writer.write(editor, finding("A", 30, "It is not so."), findings)
    assert list(findings)[-1] == ("A", 30)
    assert len(findings) == writer.MAX_FINDINGS
    report = (tmp_path / "report.md").read_text()
    assert report.count("So it is.") == writer.MAX_FINDINGS - 1
    assert "30. It is not so." in report
