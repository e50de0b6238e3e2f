"""The agents' work, without a server and without pauses."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from telemetron.demo import planner, researcher, writer
from telemetron.demo.queue import FolderQueue
from telemetron.demo.worker import AgentWorker


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AgentWorker]]:
    """Make workers that share a run."""
    monkeypatch.delenv("TELEMETRON_URL", raising=False)
    made = []

    def make(name: str) -> AgentWorker:
        made.append(AgentWorker(name, tmp_path, [], pace=0))
        return made[-1]

    yield make
    for each in made:
        each.agent.close()


def test_the_texts_are_there() -> None:
    texts = planner.texts()
    assert len(texts) >= 6
    assert all(1_500 < len(text) < 6_000 for text in texts)


def test_a_text_becomes_a_report(worker: Callable[..., AgentWorker], tmp_path: Path) -> None:
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


def test_a_full_queue_is_waited_for(worker: Callable[..., AgentWorker], tmp_path: Path) -> None:
    giver = worker("planner")
    queue = FolderQueue(tmp_path / "small", limit=1)
    with giver.agent.task() as task, ThreadPoolExecutor() as pool:
        giver.give(task, queue, {"id": 1})
        given = pool.submit(giver.give, task, queue, {"id": 2})
        while not task.waits:
            assert not given.done()
        assert [(wait.kind, wait.name) for wait in task.waits] == [("queue", "small")]
        assert giver.take(queue) == {"id": 1}
        given.result(timeout=10)
        assert task.waits == ()
    assert giver.take(queue) == {"id": 2}


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
