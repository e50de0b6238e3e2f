"""The subject of a brief: find it by a key, a name or an id, and find its joins."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from telemetron.answers.brief.survey import NAME_OF, Id, Survey, ends
from telemetron.document import Agent, Finding, ModelDeployment, Queue, Task, Workload
from telemetron.key import escape

CUT = "…"


class Target(NamedTuple):
    """One thing that a brief is about: an entity, or an item of it."""

    id: Id
    item: Any = None
    """A pod, an instance or a task; None: the entity itself."""
    path: str | None = None
    """The item in the document, as in findings."""


class UnknownError(LookupError):
    """Nothing has this key, name or id."""


class Search:
    """The search for a text; run all `steps` before the result."""

    def __init__(self, survey: Survey, text: str) -> None:
        self._survey = survey
        self._text = text
        self._matches: Callable[[str], bool] = text.__eq__
        if text.endswith(CUT) and len(text) > 1:
            self._matches = lambda one: one.startswith(text[:-1])
        self._found: list[Target] = []

    def steps(self) -> Iterator[None]:
        """Look at every entity; yield after each."""
        for section in self._survey.snapshot.sections:
            for fragment in self._survey.snapshot.sections[section].rope:
                self._found += self._look(section, fragment.entity)
                yield

    def result(self) -> list[Target]:
        """Return all that match. Raises UnknownError."""
        distinct = {(one.id, one.path): one for one in self._found}
        if not distinct:
            raise UnknownError(self._text)
        return list(distinct.values())

    def _look(self, section: str, entity: Any) -> Iterator[Target]:
        id = section, entity.key
        names = [entity.key, f"{section}/{entity.key}"]
        if section in NAME_OF:
            name = NAME_OF[section](entity)
            names += [name, f"{section}/{name}"]
        if section == "litellm":
            names += [entity.id, *entity.aliases]
        if section == "findings" and entity.root.kind:
            names += [str(entity.root.name), f"{entity.root.kind}/{entity.root.name}"]
        if any(map(self._matches, names)):
            yield Target(id)
        for path, name, item in _items(entity):
            if self._matches(name) or self._text == f"{_WORDS[path]} {name}":
                yield Target(id, item, f"{path}/{escape(name)}")


_WORDS = {"pods": "pod", "instances": "instance", "activity/active_task_ids": "task"}
_WORDS["tasks"] = "task"


def _items(entity: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(entity, Workload):
        yield from (("pods", one.pod_id, one) for one in entity.pods)
    elif isinstance(entity, Queue):
        yield from (("tasks", one.id, one) for one in entity.tasks)
    elif isinstance(entity, Agent):
        yield from (("instances", one.id, one) for one in entity.instances)
        tasks = entity.activity.active_task_ids
        yield from (("activity/active_task_ids", one.id, one) for one in tasks)


class Joins:
    """Entities that belong together; run all `steps` before use."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._edges: dict[Id, dict[Id, None]] = {}

    def steps(self) -> Iterator[None]:
        """Look at every agent, queue, model and workload; yield after each."""
        self._names: dict[tuple[str, str], list[Id]] = {}
        for section in ("queues", "litellm", "agents"):
            for fragment in self._rope(section):
                for name in _names(section, fragment.entity):
                    self._names.setdefault((section, name), []).append(
                        (section, fragment.entity.key)
                    )
                yield
        self._hosts: dict[str, Id] = {}
        for fragment in self._rope("workload"):
            workload = fragment.entity
            self._hosts |= {pod.ip: ("workload", workload.key) for pod in workload.pods if pod.ip}
            yield
        for fragment in self._rope("agents"):
            self._join(("agents", fragment.entity.key), self._of_agent(fragment.entity))
            yield
        for fragment in self._rope("queues"):
            hosts = [self._hosts.get(one.host or "") for one in fragment.entity.members]
            self._join(("queues", fragment.entity.key), filter(None, hosts))
            yield

    def of(self, target: Target) -> list[Id]:
        """Return the entities that the target belongs to or needs."""
        entity = self._survey.get(target.id)
        if isinstance(entity, Finding):
            return ends(entity)
        if isinstance(target.item, Task):
            return [target.id, *self._of_task(target.item)]
        return [target.id, *self._edges.get(target.id, ())]

    def _rope(self, section: str) -> Any:
        return self._survey.snapshot.sections[section].rope

    def _join(self, id: Id, others: Iterable[Id]) -> None:
        for other in others:
            if other != id:
                self._edges.setdefault(id, {})[other] = None
                self._edges.setdefault(other, {})[id] = None

    def _of_agent(self, agent: Agent) -> Iterator[Id]:
        for one in agent.instances:
            if one.workload:
                yield "workload", one.workload
        for section, names in (("queues", agent.queues), ("litellm", agent.models)):
            for name in names:
                yield from self._names.get((section, name), ())
        for task in agent.activity.active_task_ids:
            yield from self._of_task(task)

    def _of_task(self, task: Task) -> Iterator[Id]:
        wanted = [("queues", task.queue), ("litellm", task.model)]
        kinds = {"llm": "litellm", "queue": "queues", "agent": "agents"}
        wanted += [(kinds[one.kind], one.name) for one in task.waits if one.kind in kinds]
        for section, name in wanted:
            yield from self._names.get((section, name or ""), ())


def _names(section: str, entity: Any) -> list[str]:
    if isinstance(entity, ModelDeployment):
        return [entity.model, *entity.aliases]
    return [NAME_OF[section](entity)]
