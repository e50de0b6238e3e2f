"""`telemetron state`: the state as tables for a terminal, with ages instead of timestamps.

`–` means none (nothing failed, nothing waits), `?` means not known. All text is escaped first,
because others wrote much of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from rich.console import Console
from rich.table import Table
from rich.text import Text

from telemetron.cli import output
from telemetron.cli.findings import doubts, ranked
from telemetron.cli.output import duration
from telemetron.document import (
    Agent,
    Finding,
    ModelDeployment,
    Queue,
    SourceRow,
    State,
    Task,
    Wait,
    Workload,
)
from telemetron.history.place import parse
from telemetron.text import cut, printable

MAX_ROWS = 200
MAX_CELL = 200

NONE = "–"
UNKNOWN = "?"

STYLES = {
    "critical": "red",
    "warning": "yellow",
    "info": "dim",
    "ok": "green",
    "active": "green",
    "healthy": "green",
    "complete": "green",
    "starting": "yellow",
    "degraded": "yellow",
    "stale": "yellow",
    "waiting": "yellow",
    "progressing": "yellow",
    "cooling_down": "yellow",
    "failing": "red",
    "silent": "red",
    "stuck": "red",
    "unhealthy": "red",
    "off": "dim",
    "declared": "dim",
}

Row = Sequence[str]


def show(body: bytes, now: datetime, at: str | None) -> None:
    """Write the tables of an answer; with `at`, of the past. `now` is the server's time."""
    try:
        state = msgspec.json.decode(body, type=State)
    except msgspec.MsgspecError as error:
        output.fail_unexpected(error)
    moment = now
    if at is not None:
        asked = parse(at, now)
        # The state of a place is as old as its revision.
        moment = asked if isinstance(asked, datetime) else state.changed_at
    write(state, moment, Console(highlight=False), is_past=at is not None)


def write(state: State, now: datetime, console: Console, *, is_past: bool = False) -> None:
    """Write a table for every section in the answer; ages are relative to `now`.

    If the answer is of the past, `now` is its time, and the title shows it.
    """
    cells = Cells(now)
    console.print(cells.title(state, is_past))
    if state.findings is not UNSET:
        found = map(cells.finding, ranked(state))
        _table(console, "FINDINGS", FINDINGS, found, f"none{doubts(state.sources)}")
    _table(console, "SOURCES", SOURCES, map(cells.source, state.sources))
    tables = (
        ("agents", "AGENTS", AGENTS, partial(map, cells.agent)),
        ("agents", "TASKS", TASKS, cells.tasks),
        ("queues", "QUEUES", QUEUES, partial(map, cells.queue)),
        ("workload", "WORKLOAD", WORKLOAD, partial(map, cells.workload)),
        ("litellm", "LITELLM", LITELLM, partial(map, cells.model)),
    )
    for section, title, columns, rows in tables:
        entities = getattr(state, section)
        if entities is not UNSET:
            _table(console, title, columns, rows(entities), nothing(section, state.sources))
    if problems := list(cells.problems(state)):
        _table(console, "PROBLEMS", PROBLEMS, problems)


def nothing(section: str, sources: Sequence[SourceRow]) -> str:
    """Return the text of an empty section; it names the sources of it that are not `ok`."""
    feeding = [row for row in sources if section in FEEDS.get(row.collector, ())]
    on = [row for row in feeding if row.status != "off"]
    doubts = [f"{row.key} is {row.status}" for row in on or feeding if row.status != "ok"]
    return f"none ({', '.join(doubts)})" if doubts else "none"


FEEDS = {
    "heartbeats": ("agents",),
    "kafka": ("queues",),
    "kubernetes": ("workload", "agents"),
    "litellm": ("litellm",),
    "rabbitmq": ("queues",),
}
"""The sections that each built-in collector writes; a client does not import them."""

FINDINGS = ("severity", "rule", "summary", "since", "root", "effects")
SOURCES = ("source", "collector", "status", "since", "entities", "last ok")
AGENTS = ("agent", "status", "tasks", "progress", "instances", "last failure")
TASKS = ("task", "agent", "status", "started", "progress", "waits for", "step")
QUEUES = ("queue", "group", "consumers", "depth", "lag", "oldest", "consumed")
WORKLOAD = ("workload", "kind", "ready", "rollout", "restarts", "why")
LITELLM = ("model", "upstream", "status", "since", "tpm", "rpm", "failed rpm", "last error")
PROBLEMS = ("of", "reason", "message", "since")


class Cells:
    """The cells of all tables. Every age is relative to the same `now`."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def age(self, at: datetime | None, absent: str = UNKNOWN) -> str:
        return absent if at is None else duration((self.now - at).total_seconds())

    def title(self, state: State, is_past: bool) -> Text:
        changed, started = self.age(state.changed_at), self.age(state.started_at)
        then = f", as it was at {self.now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if is_past else ""
        text = f"{state.id}  revision {state.revision}, changed {changed} ago, up {started}{then}"
        return Text(printable(text), style="bold")

    def finding(self, finding: Finding) -> Row:
        age, count = self.age(finding.since), str(finding.effect_count)
        return finding.severity, finding.rule, finding.summary, age, finding.root.key, count

    def source(self, row: SourceRow) -> Row:
        since = NONE if row.status == "off" else self.age(row.since)
        absent = NONE if row.status in ("ok", "off") else "never"
        last_ok = self.age(row.last_ok_at, absent)
        return row.key, row.collector, row.status, since, str(row.entities), last_ok

    def agent(self, agent: Agent) -> Row:
        activity = agent.activity
        progress = self.age(activity.least_progressed_at, UNKNOWN if activity.task_count else NONE)
        failure = activity.last_failure
        failed = f"{known(failure.error)}, {self.age(failure.at)}" if failure else NONE
        return (
            qualified(agent),
            agent.status,
            f"{activity.task_count}/{agent.max_parallel_invocations}",
            progress,
            self.instances(agent),
            failed,
        )

    def instances(self, agent: Agent) -> str:
        silent = [one.silent_since for one in agent.instances if one.status == "silent"]
        if not silent:
            return known(agent.instance_count)
        since = self.age(min(filter(None, silent), default=None))
        return f"{known(agent.instance_count)} ({len(silent)} silent {since})"

    def tasks(self, agents: Iterable[Agent]) -> Iterator[Row]:
        return (self.task(one, task) for one in agents for task in one.activity.active_task_ids)

    def task(self, agent: Agent, task: Task) -> Row:
        stalled = " stalled" if task.stalled else ""
        last_known = " (last known)" if task.last_known else ""
        return (
            task.id,
            qualified(agent),
            f"{known(task.status)}{stalled}{last_known}",
            self.age(task.started_on),
            self.age(task.progressed_at),
            ", ".join(map(self.wait, task.waits)) or NONE,
            task.step or NONE,
        )

    def wait(self, wait: Wait) -> str:
        return " ".join(filter(None, (wait.kind, wait.name, self.age(wait.since))))

    def queue(self, queue: Queue) -> Row:
        bound = "≤ " if queue.depth is not None and queue.depth_exact is False else ""
        empty = queue.depth == 0
        return (
            queue.name,
            queue.consumer_group or NONE,
            known(queue.consumers),
            bound + known(queue.depth),
            known(queue.lag),
            self.age(queue.oldest_submitted_at, NONE if empty else UNKNOWN),
            self.age(queue.consumed_at),
        )

    def workload(self, workload: Workload) -> Row:
        live = workload.live
        ready = f"{known(live.ready)}/{known(live.desired)}" if live else UNKNOWN
        reasons = {pod.reason for pod in workload.pods}
        if live and (live.rollout != "complete" or (live.ready or 0) < (live.desired or 0)):
            reasons.add(live.reason)
        restarts = [pod.restarts for pod in workload.pods]
        return (
            f"{workload.namespace}/{workload.deployment_name}",
            workload.kind,
            ready,
            known(live.rollout if live else None),
            known(None if None in restarts else sum(filter(None, restarts))),
            ", ".join(sorted(filter(None, reasons))) or NONE,
        )

    def model(self, model: ModelDeployment) -> Row:
        error = model.last_error
        return (
            model.model,
            known(model.upstream_model),
            model.status,
            self.age(model.status_since),
            known(model.tpm),
            known(model.rpm),
            known(model.failed_rpm),
            f"{known(error.error_class)}, {self.age(error.at)}" if error else NONE,
        )

    def problems(self, state: State) -> Iterable[Row]:
        for row in state.sources:
            for one in row.problems:
                of = f"{row.key} {one.scope}".rstrip()
                yield of, one.reason, one.message, self.age(one.since)
        for section in (state.agents, state.queues, state.workload, state.litellm):
            for entity in () if section is UNSET else section:
                for problem in entity.problems:
                    yield entity.key, problem.reason, problem.message, self.age(problem.since)


def known(value: Any) -> str:
    """Return the value as text, or `?` for null."""
    if value is None:
        return UNKNOWN
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def qualified(agent: Agent) -> str:
    """Return `namespace/name`, or only the name."""
    return agent.name if agent.namespace is None else f"{agent.namespace}/{agent.name}"


def _table(
    console: Console, title: str, columns: Row, rows: Iterable[Row], none: str = "none"
) -> None:
    rows = list(rows)
    console.print()
    if not rows:
        console.print(Text.assemble((title, "bold"), f"  {printable(none)}"))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")  # show all text on a narrow terminal too
    for row in rows[:MAX_ROWS]:
        table.add_row(*map(_cell, columns, row))
    console.print(Text(title, style="bold"))
    console.print(table)
    if len(rows) > MAX_ROWS:
        console.print(Text(f"… {len(rows) - MAX_ROWS} more in the JSON", style="dim"))


def _cell(column: str, value: str) -> Text:
    text = cut(printable(value), MAX_CELL)
    if column not in ("severity", "status", "rollout"):
        return Text(text)
    ill = " stalled" in text or " (last known)" in text
    return Text(text, style="red" if ill else STYLES.get(text, ""))
