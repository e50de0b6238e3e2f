"""The planner: splits texts into sections and hands them to the researchers."""

from importlib.resources import files
from itertools import cycle

from telemetron.demo.text import split
from telemetron.demo.worker import POLL_SECONDS, AgentWorker

QUEUES: list[str] = []
MAX_WAITING = 3
"""Sections that may wait for a researcher before the next text is planned."""


def texts() -> list[str]:
    """Return the texts that the package contains, sorted by file name."""
    folder = files("telemetron.demo") / "texts"
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in found]


def work(worker: AgentWorker) -> None:
    """Plan one text after the other, for ever."""
    sections = worker.queue("sections")
    for round, text in enumerate(cycle(texts()), 1):
        while len(sections) >= MAX_WAITING:
            worker.sleep(POLL_SECONDS)
        plan(worker, round, text)


def plan(worker: AgentWorker, round: int, text: str) -> None:
    """Run one task: hand over each section of a text as a task with this one as its parent."""
    with worker.agent.task(f"plan-{round}") as task:
        title = text.partition("\n")[0]
        worker.step(task, f"reading {title!r}")
        with worker.tool(task, "split"):
            sections = split(text)
        for section in sections:
            item = {
                "id": f"research-{round}.{section.number}",
                "parent_id": task.id,
                "title": section.title,
                "number": section.number,
                "body": section.body,
            }
            worker.step(task, f"handing over section {section.number} of {len(sections)}")
            worker.give(task, worker.queue("sections"), item)
