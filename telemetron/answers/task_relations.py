"""The relations of a task: its parents and children, what blocks it, and findings about it."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from telemetron.answers.task_sightings import Found, Run, Sightings
from telemetron.document import Finding, Wait
from telemetron.key import escape

MAX_RELATIVES = 16
MAX_BLOCKERS = 16
MAX_FINDINGS = 8

Word = Callable[[str], str]
"""Returns one word for where another task is."""
Json = dict[str, Any]


class Relatives(NamedTuple):
    """Some tasks with one word each, and how many there are."""

    tasks: list[Json]
    total: int


def parents(found: Found, word: Word) -> Relatives:
    """Return the tasks that caused it."""
    tasks = [*(run.task for run in found.runs), *(one.task for one in found.outcomes)]
    named = [getattr(task, "parent_id", None) for task in tasks]
    return _relatives(dict.fromkeys(filter(None, [*named, *sorted(found.parents)])), word)


def children(sightings: Sightings, found: Found, past: Mapping[str, str], word: Word) -> Relatives:
    """Return the tasks that it caused, now or in the past; active ones come first."""
    now = [id for one in sorted(found.ids) for id in sightings.children.get(one, ())]
    ids = dict.fromkeys([*now, *past])
    words = {id: word(id) for id in list(ids)[:MAX_RELATIVES]}
    return _relatives(dict.fromkeys(sorted(ids, key=lambda id: words.get(id) != "active")), word)


def _relatives(ids: Mapping[str, None], word: Word) -> Relatives:
    some = [{"id": id, "where": word(id)} for id in list(ids)[:MAX_RELATIVES]]
    return Relatives(some, len(ids))


def blocked_by(sightings: Sightings, found: Found, word: Word) -> Iterator[Json]:
    """Yield the things that block a task, then the things that block those, and so on.

    Each task is followed once, so that a cycle ends; it is marked.
    """
    followed = set(found.ids)
    queue: deque[str] = deque(sorted(found.ids))
    while queue:
        blocked = queue.popleft()
        for one in _blockers(sightings, blocked):
            blocker = one.get("by_task")
            if blocker is not None:
                one["where"] = word(blocker)
                if blocker in followed:
                    one["cycle"] = True
                else:
                    followed.add(blocker)
                    queue.append(blocker)
            yield one if blocked in found.ids else {"task": blocked} | one


def _blockers(sightings: Sightings, id: str) -> Iterator[Json]:
    for run in sightings.runs.get(id, ()):
        for wait in run.task.waits:
            yield waiting_for(sightings, wait)
    for pending in sightings.blockers.get(id, ()):
        key = pending.queue.key
        yield {"kind": "queue", "name": pending.queue.name, "by_task": pending.task.id, "key": key}


def waiting_for(sightings: Sightings, wait: Wait) -> Json:
    """Return a wait with the status of the model, agent or queue that it names."""
    about = {"llm": _of_model, "agent": _of_agent, "queue": _of_queue}.get(wait.kind)
    status = about(sightings, wait.name) if about and wait.name else None
    made = {
        "kind": wait.kind,
        "name": wait.name,
        "since": wait.since,
        "by_task": wait.task,
        "status": status,
    }
    return {name: one for name, one in made.items() if one is not None}


def _of_model(sightings: Sightings, name: str) -> str | None:
    rows = [it for it in sightings.entities("litellm") if name in (it.model, *it.aliases)]
    return "/".join(sorted({row.status for row in rows})) or None


def _of_agent(sightings: Sightings, name: str) -> str | None:
    rows = [it for it in sightings.entities("agents") if it.name == name]
    return "/".join(sorted({row.status for row in rows})) or None


def _of_queue(sightings: Sightings, name: str) -> str | None:
    rows = [it for it in sightings.entities("queues") if it.name == name]
    return "/".join(sorted({row.group_state for row in rows if row.group_state})) or None


def findings(sightings: Sightings, found: Found) -> Iterator[Finding]:
    """Yield the findings that concern a task, by rank."""
    refs = _references(sightings, found)
    marks = tuple(f"active_task_ids/{escape(id)}/" for id in found.ids)
    for finding in sorted(sightings.entities("findings"), key=attrgetter("rank")):
        places = [finding.root, *finding.effects]
        paths = [f"{one.path or ''}/" for one in (*places, *finding.evidence)]
        is_named = any(mark in path for mark in marks for path in paths)
        if is_named or any(_concerns(refs.get((it.section, it.key)), it.path) for it in places):
            yield finding


def _references(sightings: Sightings, found: Found) -> dict[tuple[str, str], set[str]]:
    """Return the entities that a task depends on, each with the items of it that count."""
    refs: dict[tuple[str, str], set[str]] = {}
    for run in found.runs:
        items = refs.setdefault(("agents", run.agent.key), set())
        if run.task.instance:
            items.add(f"instances/{escape(run.task.instance)}")
        workload, pod = sightings.home(run)
        if workload:
            refs[("workload", workload.key)] = {f"pods/{escape(pod.pod_id)}"} if pod else set()
        for model in _models(sightings, run):
            refs[("litellm", model)] = set()
    for one in found.pending:
        refs[("queues", one.queue.key)] = set()
    return refs


def _models(sightings: Sightings, run: Run) -> Iterator[str]:
    names = {wait.name for wait in run.task.waits if wait.kind == "llm"} - {None}
    for row in sightings.entities("litellm") if names else ():
        if names & {row.model, *row.aliases}:
            yield row.key


def _concerns(items: set[str] | None, path: str | None) -> bool:
    """Return whether trouble at a path of an entity concerns a task with these items of it."""
    if items is None:
        return False
    if path is None:
        return True
    first = path.split("/")[0]
    if first not in ("instances", "pods", "activity"):
        return True
    return any(f"{path}/".startswith(f"{item}/") for item in items)
