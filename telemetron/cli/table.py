"""The state as tables on a terminal: ages instead of timestamps, the unknown as `?`.

`–` stands for what there is none of (nothing failed, nothing waits), `?` for what is not known.
Everything shown is escaped first: much of it was written by others.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET
from rich.console import Console
from rich.table import Table
from rich.text import Text

from telemetron.config.settings import BUILT_IN
from telemetron.document import (
    Agent,
    ModelDeployment,
    Queue,
    SourceRow,
    State,
    Task,
    Wait,
    Workload,
)
from telemetron.text import cut, printable

MAX_ROWS = 200
MAX_CELL = 200

NONE = "–"
UNKNOWN = "?"

STYLES = {
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


def show(state: State, now: datetime, console: Console, *, is_past: bool = False) -> None:
    """Write every section that the answer has; ages count to `now`.

    That is the answer's `Date`, or the moment that was asked for, which the title then says.
    """
    view = View(now)
    console.print(view.title(state, is_past))
    _table(console, "SOURCES", SOURCES, map(view.source, state.sources))
    if state.agents is not UNSET:
        none = nothing("agents", state.sources)
        _table(console, "AGENTS", AGENTS, map(view.agent, state.agents), none)
        tasks = ((agent, task) for agent in state.agents for task in agent.activity.active_task_ids)
        _table(console, "TASKS", TASKS, (view.task(agent, task) for agent, task in tasks), none)
    if state.queues is not UNSET:
        none = nothing("queues", state.sources)
        _table(console, "QUEUES", QUEUES, map(view.queue, state.queues), none)
    if state.workload is not UNSET:
        none = nothing("workload", state.sources)
        _table(console, "WORKLOAD", WORKLOAD, map(view.workload, state.workload), none)
    if state.litellm is not UNSET:
        none = nothing("litellm", state.sources)
        _table(console, "LITELLM", LITELLM, map(view.model, state.litellm), none)
    if problems := list(view.problems(state)):
        _table(console, "PROBLEMS", PROBLEMS, problems)


def nothing(section: str, sources: Sequence[SourceRow]) -> str:
    """What an empty section says: `none`, and which source that feeds it cannot be relied on."""
    feeding = [row for row in sources if section in BUILT_IN.get(row.collector, ())]
    on = [row for row in feeding if row.status != "off"]
    doubts = [f"{row.key} is {row.status}" for row in on or feeding if row.status != "ok"]
    return f"none ({', '.join(doubts)})" if doubts else "none"


SOURCES = ("source", "collector", "status", "since", "entities", "last ok")
AGENTS = ("agent", "status", "tasks", "progress", "instances", "last failure")
TASKS = ("task", "agent", "status", "started", "progress", "waits for", "step")
QUEUES = ("queue", "group", "consumers", "depth", "lag", "oldest", "consumed")
WORKLOAD = ("workload", "kind", "ready", "rollout", "restarts", "why")
LITELLM = ("model", "upstream", "status", "since", "tpm", "rpm", "failed rpm", "last error")
PROBLEMS = ("of", "reason", "message", "since")


class View:
    """Rows of cells; every age is computed against one `now`."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def age(self, at: datetime | None, absent: str = UNKNOWN) -> str:
        return absent if at is None else duration((self.now - at).total_seconds())

    def title(self, state: State, is_past: bool) -> Text:
        changed, started = self.age(state.changed_at), self.age(state.started_at)
        then = f", as it was at {self.now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if is_past else ""
        text = f"{state.id}  revision {state.revision}, changed {changed} ago, up {started}{then}"
        return Text(printable(text), style="bold")

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


def duration(seconds: float) -> str:
    """`42s`, `12m`, `5h`, `3d`; a time ahead of now by more than a tick of its clock: `-7s`."""
    seconds = 0 if -2 < seconds < 0 else seconds
    sign = "-" if seconds < 0 else ""
    rest = abs(int(seconds))
    for size, unit, limit in ((1, "s", 100), (60, "m", 6_000), (3_600, "h", 172_800)):
        if rest < limit:
            return f"{sign}{rest // size}{unit}"
    return f"{sign}{rest // 86_400}d"


def known(value: Any) -> str:
    """The value, or that it is not known."""
    if value is None:
        return UNKNOWN
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def qualified(agent: Agent) -> str:
    """`namespace/name`, or the name alone."""
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
        table.add_column(column, overflow="fold")  # a narrow terminal hides nothing
    for row in rows[:MAX_ROWS]:
        table.add_row(*map(_cell, columns, row))
    console.print(Text(title, style="bold"))
    console.print(table)
    if len(rows) > MAX_ROWS:
        console.print(Text(f"… {len(rows) - MAX_ROWS} more; the JSON has them all", style="dim"))


def _cell(column: str, value: str) -> Text:
    text = cut(printable(value), MAX_CELL)
    if column not in ("status", "rollout"):
        return Text(text)
    ill = " stalled" in text or " (last known)" in text
    return Text(text, style="red" if ill else STYLES.get(text, ""))
