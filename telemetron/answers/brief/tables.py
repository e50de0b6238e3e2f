"""The tables of a brief: what a row says of a finding, a change or an entity.

Their columns have the names of the document's fields wherever they show one.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from itertools import zip_longest
from typing import Any

from msgspec import Struct

from telemetron.answers.brief import trouble
from telemetron.answers.brief.budget import Cells, Row, Table
from telemetron.answers.brief.survey import ITEMS, NAME_OF, Survey
from telemetron.document import (
    Agent,
    Effect,
    Evidence,
    Finding,
    ModelDeployment,
    Pod,
    Problem,
    Queue,
    SourceProblem,
    SourceRow,
    Workload,
)
from telemetron.key import unescape
from telemetron.text import cut

MAX_NAME, MAX_TEXT, MAX_SCALARS = 80, 240, 8
# Of no use to a reader who has the answer's place.
_LEFT_OUT = {"updated_at", "measured_at", "observed_at", "source"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Clock:
    """Writes times to the second: `HH:MM:SS` on the day of the answer, else with their date."""

    def __init__(self, day: date) -> None:
        self._day = day

    def time(self, at: datetime | None) -> str | None:
        """Return the time in UTC."""
        if at is None:
            return None
        text = at.isoformat(timespec="seconds").removesuffix("+00:00")
        return text[11:] if at.date() == self._day else f"{text}Z"

    def value(self, value: Any) -> Any:
        """Return a value of the document, shorter if it is a time or a long text."""
        if not isinstance(value, str):
            return value
        if _TIME.fullmatch(value):
            return self.time(datetime.fromisoformat(value))
        return cut(value, MAX_TEXT)


def short(text: str) -> str:
    """Return a name as the tables show it."""
    return cut(text, MAX_NAME)


def item(path: str | None) -> str | None:
    """Return the item of an entity in words: `pods/writer-1` is `pod writer-1`."""
    if path is None:
        return None
    *_, list_, last = ["", *path.split("/")]
    return short(f"{ITEMS[list_]} {unescape(last)}" if list_ in ITEMS else path)


def rows(table: Table, levels: Iterable[Sequence[Cells]]) -> list[Row]:
    """Return rows without nulls at their ends, and without columns that have only nulls."""
    every = [list(one) for one in levels]
    filled = zip_longest(*[cells for one in every for cells in one])
    kept = [at for at, column in enumerate(filled) if any(cell is not None for cell in column)]
    short = Table(table.name, tuple(table.columns[at] for at in kept))
    return [Row(short, [_trimmed(cells, kept) for cells in one]) for one in every]


def _trimmed(cells: Cells, kept: Sequence[int]) -> Cells:
    some = [cells[at] for at in kept if at < len(cells)]
    while some and some[-1] is None:
        some.pop()
    return some


class Tables:
    """Makes the rows of one survey."""

    def __init__(self, survey: Survey, clock: Clock) -> None:
        self._survey = survey
        self.clock = clock
        self._of: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Cells]]] = {
            "agents": (AGENT, self._agent),
            "queues": (QUEUE, self._queue),
            "litellm": (MODEL, self._model),
            "workload": (WORKLOAD, self._workload),
        }

    def sources(self, sources: Iterable[SourceRow]) -> list[Row]:
        """Return the rows of sources."""
        return rows(Table("sources", SOURCE), [[self._source(one)] for one in sources])

    def findings(self, findings: Iterable[Finding]) -> list[Row]:
        """Return the rows of findings; without room for the sentence, only the cause."""
        every = map(self._finding, findings)
        return rows(Table("findings", FINDING), [[cells, cells[:5]] for cells in every])

    def evidence(self, findings: Iterable[Finding]) -> dict[int, list[Row]]:
        """Return the rows of all evidence, by the rank of its finding."""
        found = [(one, fact) for one in findings for fact in one.evidence]
        return _by_rank(
            rows(Table("evidence", EVIDENCE), [[self._evidence(*one)] for one in found])
        )

    def effects(self, findings: Iterable[Finding]) -> dict[int, list[Row]]:
        """Return the rows of all effects, by the rank of their finding."""
        found = [(one, effect) for one in findings for effect in one.effects]
        return _by_rank(rows(Table("effects", EFFECT), [[self._effect(*one)] for one in found]))

    def entities(self, section: str, entities: Iterable[Any]) -> list[Row]:
        """Return the rows of entities; without room for the evidence, the name and the verdict."""
        columns, cells_of = self._of[section]
        every = map(cells_of, entities)
        return rows(Table(section, columns), [[cells, cells[:4]] for cells in every])

    def details(self, name: str, value: Struct, share: float | None = None) -> Row:
        """Return a whole entity or item; without room, with less of its lists.

        With a share of the answer it may have no items, as it is what the answer is about.
        """
        sizes = (256, 16, 4, 1) if share is None else (256, 16, 4, 1, 0)
        levels = ((name, self.plain(value, most)) for most in sizes)
        return Row(Table("details"), levels, 1.0 if share is None else share)

    def plain(self, value: Any, most: int) -> Any:
        """Return a value of the document without nulls and empty lists; the worst items first."""
        if isinstance(value, datetime):
            return self.clock.time(value)
        if isinstance(value, list):
            judge = trouble.OF_ITEM.get(type(value[0]), lambda _: 0)
            most = most if isinstance(value[0], Struct) else max(most, MAX_SCALARS)
            worst = sorted(value, key=judge, reverse=True)
            return [self.plain(one, most) for one in worst[:most]]
        if not isinstance(value, Struct):
            return self.clock.value(value)
        fields = {
            key: getattr(value, attribute)
            for key, attribute in zip(
                value.__struct_encode_fields__, value.__struct_fields__, strict=True
            )
            if key not in _LEFT_OUT
        }
        shown = {key: self.plain(one, most) for key, one in fields.items() if not _is_empty(one)}
        lists = {key: one for key, one in fields.items() if isinstance(one, list)}
        listed = {key: (len(shown.get(key, ())), len(one)) for key, one in lists.items()}
        cut = {key: counts for key, counts in listed.items() if counts[0] < counts[1]}
        return shown | ({"cut": cut} if cut else {})

    # rows

    def _source(self, one: SourceRow) -> Cells:
        times = self.clock.time(one.since), self.clock.time(one.last_ok_at)
        return short(one.key), one.status, *times, *_problem(one.problems)

    def _finding(self, one: Finding) -> Cells:
        root, unchecked = short(self._survey.root(one.root)), ", ".join(one.unchecked) or None
        cells = one.rank, one.severity, one.rule, root, self.clock.time(one.since)
        effects = one.effect_count or None
        return *cells, cut(one.summary, MAX_TEXT), effects, item(one.root.path), unchecked

    def _evidence(self, finding: Finding, fact: Evidence) -> Cells:
        value = self.clock.value(fact.value)
        is_root = (fact.section, fact.key) == (finding.root.section, finding.root.key)
        entity = None if is_root and finding.root.kind is None else self._name(fact)
        return finding.rank, cut(fact.path, MAX_TEXT), value, entity

    def _effect(self, finding: Finding, effect: Effect) -> Cells:
        since = self.clock.time(effect.since)
        return finding.rank, effect.rule, self._name(effect), since, item(effect.path)

    def _name(self, one: Evidence | Effect) -> str:
        return short(self._survey.reference((one.section, one.key)))

    def _entity(self, section: str, one: Any, verdict: Any) -> Cells:
        """Return the name, the verdict, the finding, and the key unless the name is unique."""
        id = section, one.key
        name = NAME_OF[section](one)
        key = None if self._survey.name(id) == name else short(one.key)
        return short(name), verdict, self._survey.concerned.get(id), key

    def _agent(self, one: Agent) -> Cells:
        stalled = [task for task in one.activity.active_task_ids if task.stalled]
        waits = [wait for task in stalled for wait in task.waits[:1]]
        silent = [instance.silent_since for instance in one.instances if instance.silent_since]
        failure = one.activity.last_failure
        return (
            *self._entity("agents", one, one.status),
            *(one.activity.task_count, len(stalled) or None),
            one.max_parallel_invocations if trouble.is_overloaded(one) else None,
            next((cut(f"{wait.kind} {wait.name or ''}".strip(), MAX_NAME) for wait in waits), None),
            self.clock.time(stalled[0].progressed_at) if stalled else None,
            one.silent_count or None,
            self.clock.time(min(silent, default=None)),
            failure and failure.error and cut(failure.error, MAX_NAME),
            *_problem(one.problems),
        )

    def _queue(self, one: Queue) -> Cells:
        return (
            *self._entity("queues", one, one.depth),
            *(one.consumers, one.group_state, one.consumer_group),
            *map(self.clock.time, (one.oldest_submitted_at, one.consumed_at)),
            *_problem(one.problems),
        )

    def _model(self, one: ModelDeployment) -> Cells:
        error = one.last_error
        told = (error.error_class, error.status_code) if error else ()
        return (
            *self._entity("litellm", one, one.status),
            self.clock.time(one.status_since),
            " ".join(str(part) for part in told if part is not None) or None,
            *(one.failed_rpm or None, one.refused_rpm or None),
            *(self.clock.time(one.cooldown_until), one.provider),
            *_problem(one.problems),
        )

    def _workload(self, one: Workload) -> Cells:
        live, unwell = one.live, [pod for pod in one.pods if trouble.pod(pod)]
        return (
            *self._entity("workload", one, live and live.ready),
            live and live.desired,
            live and live.rollout,
            *self._pods(unwell),
            live and live.reason,
            *_problem(one.problems),
        )

    def _pods(self, unwell: Sequence[Pod]) -> Cells:
        """Return how many pods are not well, and the one that says most about them."""
        if not unwell:
            return [None] * 7
        reasons = Counter(pod.reason for pod in unwell)
        common = [pod for pod in unwell if reasons[pod.reason] == max(reasons.values())]
        pod = max(common, key=lambda pod: (pod.reason is not None, pod.restarts or 0))
        last = pod.last_exit
        return (
            *(len(unwell), pod.reason, pod.restarts or None, last and last.reason),
            *(last and self.clock.time(last.at), short(pod.pod_id)),
            pod.node if pod.node_ready is False else None,
        )


_PROBLEM = ("problem", "problem_message")
SOURCE = ("source", "status", "since", "last_ok_at", *_PROBLEM)
FINDING = (
    *("rank", "severity", "rule", "root", "since"),
    *("summary", "effect_count", "root_item", "unchecked"),
)
EVIDENCE = ("finding", "field", "value", "entity")
EFFECT = ("finding", "rule", "entity", "since", "item")
CHANGE = ("at", "entity", "field", "old", "new", "items")
AGENT = (
    *("agent", "status", "finding", "key", "task_count", "stalled_tasks"),
    *("max_parallel_invocations", "wait", "progressed_at"),
    *("silent_count", "silent_since", "last_failure", *_PROBLEM),
)
QUEUE = (
    *("queue", "depth", "finding", "key", "consumers", "group_state", "consumer_group"),
    *("oldest_submitted_at", "consumed_at", *_PROBLEM),
)
MODEL = (
    *("model", "status", "finding", "key", "status_since", "last_error", "failed_rpm"),
    *("refused_rpm", "cooldown_until", "provider", *_PROBLEM),
)
WORKLOAD = (
    *("workload", "ready", "finding", "key", "desired", "rollout", "unwell_pods", "reason"),
    *("restarts", "last_exit", "last_exit_at", "pod", "lost_node", "live_reason", *_PROBLEM),
)


def _problem(problems: Sequence[Problem | SourceProblem]) -> Cells:
    if not problems:
        return None, None
    return problems[0].reason, cut(problems[0].message, MAX_TEXT)


def _by_rank(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(next(iter(row.levels))[0], []).append(row)
    return found


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, list | dict) and not value)
