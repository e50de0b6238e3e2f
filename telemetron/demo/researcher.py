"""The researchers: each summarises one section after the other for the writer."""

from dataclasses import asdict

from telemetron.demo.queue import Item
from telemetron.demo.text import key_words, statistics, summarise
from telemetron.demo.worker import AgentWorker

QUEUES = ["sections"]


def work(worker: AgentWorker) -> None:
    """Research one section after the other, for ever."""
    sections = worker.queue("sections")
    while True:
        research(worker, worker.take(sections))


def research(worker: AgentWorker, item: Item) -> None:
    """Run one task: turn a section into a finding for the writer."""
    body = item["body"]
    with worker.task(item, "sections") as task:
        worker.step(task, "counting words")
        counts = statistics(body)
        worker.step(task, f"looking for key words among {counts.distinct}")
        found = key_words(body)
        with worker.tool(task, "summarise"):
            summary = worker.ask(task, body) or summarise(body)
        worker.step(task, "handing over the finding")
        finding = {
            "id": item["id"].replace("research", "write"),
            "parent_id": item["parent_id"],
            "title": item["title"],
            "number": item["number"],
            "statistics": asdict(counts),
            "key_words": found,
            "summary": summary,
        }
        worker.give(task, worker.queue("findings"), finding)
