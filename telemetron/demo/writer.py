"""The writer: keeps report.md up to date with the researchers' findings."""

from collections.abc import Iterable

from telemetron.demo.queue import Item
from telemetron.demo.worker import AgentWorker

QUEUES = ["findings"]
MAX_FINDINGS = 60
"""The newest findings that the report shows."""

Findings = dict[tuple[str, int], Item]


def work(worker: AgentWorker) -> None:
    """Write one finding after the other, for ever."""
    findings: Findings = {}
    queue = worker.queue("findings")
    while True:
        write(worker, worker.take(queue), findings)


def write(worker: AgentWorker, item: Item, findings: Findings) -> None:
    """Run one task: put a finding into the report, replacing an older one of the same section."""
    with worker.task(item, "findings") as task:
        worker.step(task, f"editing {item['title']!r}")
        findings.pop((item["title"], item["number"]), None)
        findings[item["title"], item["number"]] = item
        while len(findings) > MAX_FINDINGS:
            del findings[next(iter(findings))]
        with worker.tool(task, "compose"):
            report = compose(findings.values())
        task.progress("writing report.md")
        part = worker.run / "report.part"
        part.write_text(report, encoding="utf-8")
        part.rename(worker.run / "report.md")


def compose(findings: Iterable[Item]) -> str:
    """Return the report in Markdown: a chapter for each text, a paragraph for each section."""
    lines = ["# What the texts say"]
    chapter = None
    for item in sorted(findings, key=lambda item: (item["title"], item["number"])):
        if item["title"] != chapter:
            chapter = item["title"]
            lines += ["", f"## {chapter}"]
        lines += ["", _paragraph(item)]
    return "\n".join(lines) + "\n"


def _paragraph(item: Item) -> str:
    counts = item["statistics"]
    about = ", ".join(item["key_words"])
    size = f"{counts['words']} words, {counts['sentence_length']} in a sentence"
    return f"{item['number']}. {' '.join(item['summary'])} ({size}; about {about})"
