"""The planner, and the way of a text to the report, without a server and without pauses."""

from collections.abc import Callable
from pathlib import Path

from telemetron.demo import planner, researcher, writer
from telemetron.demo.worker import AgentWorker


def test_the_texts_are_there() -> None:
    texts = planner.texts()
    assert len(texts) >= 6
    assert all(1_500 < len(text) < 6_000 for text in texts)


def test_the_sections_of_a_text_become_a_report(
    worker: Callable[..., AgentWorker], tmp_path: Path
) -> None:
    text = planner.texts()[0]
    planner.plan(worker("planner"), 7, text)
    one = worker("researcher-1")
    sections = one.queue("sections")
    assert len(sections) == 3
    while (item := sections.claim("researcher-1")) is not None:
        assert item["parent_id"] == "plan-7"
        researcher.research(one, item)
    editor = worker("writer")
    findings: writer.Findings = {}
    while (item := editor.queue("findings").claim("writer")) is not None:
        assert item["parent_id"] == "plan-7"
        writer.write(editor, item, findings)
    report = (tmp_path / "report.md").read_text()
    assert "## How bread rises" in report
    assert [line[:2] for line in report.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3."]
    quoted = report.partition("1. ")[2].partition(". ")[0]
    assert quoted in text
