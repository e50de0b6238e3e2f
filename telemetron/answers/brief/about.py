"""The subject of a brief: find it by a key, a name or an id, and find its joins."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from operator import attrgetter
from typing import Any, NamedTuple

from telemetron.answers.brief.survey import ITEMS, NAME_OF, Id, Survey, ends
from telemetron.document import Agent, Ended, Finding, ModelDeployment, Pod, Queue, Task, Workload
from telemetron.key import escape
from telemetron.nearest import similar

CUT = "…"


class Target(NamedTuple):
    """One thing that a brief is about: an entity, or an item of it."""

    id: Id
    item: Any = None
    """A pod, an instance or a task; None: the entity itself."""
    path: str | None = None
    """The item in the document, as in findings."""


class UnknownError(LookupError):
    """Nothing has this key, name or id; `nearest` has similar ones."""

    def __init__(self, nearest: list[str]) -> None:
        super().__init__()
        self.nearest = nearest


class Search:
    """The search for a text; run all `steps` before the result.

    What only belongs to a group, node or provider of this name counts if nothing else has the name.
    """

    def __init__(self, survey: Survey, text: str) -> None:
        self._survey = survey
        self._text = text
        word, _, rest = text.partition(" ")
        self._texts = {text, rest} if rest and word in ITEMS.values() else {text}
        """An item may be written with its kind, as `pod writer-1`."""
        self._start = text[:-1] if text.endswith(CUT) and len(text) > 1 else None
        self._found: list[Target] = []
        self._belonging: list[Target] = []

    def steps(self) -> Iterator[None]:
        """Look at every entity; yield after each."""
        for name, section in self._survey.snapshot.sections.items():
            for fragment in section.rope:
                entity = fragment.entity
                if self._has_match(_names_of(name, entity)):
                    self._found.append(Target((name, entity.key)))
                elif self._has_match(_belongs_to(entity)):
                    self._belonging.append(Target((name, entity.key)))
                self._found += self._items(name, entity)
                if not self._found and isinstance(entity, Workload):
                    self._belonging += self._pods(entity)
                yield

    def result(self) -> list[Target]:
        """Return all that match. Raises UnknownError."""
        distinct = {(one.id, one.path): one for one in self._found or self._belonging}
        if not distinct:
            raise UnknownError(similar(self._text, set(self._every_name())))
        return list(distinct.values())

    def _every_name(self) -> Iterator[str]:
        for section in self._survey.snapshot.sections.values():
            for fragment in section.rope:
                yield fragment.entity.key
                if isinstance(fragment.entity, ModelDeployment):
                    yield fragment.entity.model
                for _, identity, items in _lists(fragment.entity):
                    yield from map(identity, items)

    def _has_match(self, names: Iterable[str]) -> bool:
        if self._start is None:
            return not self._texts.isdisjoint(names)
        return any(map(self._matches, names))

    def _matches(self, name: str) -> bool:
        return name in self._texts or (self._start is not None and name.startswith(self._start))

    def _items(self, section: str, entity: Any) -> list[Target]:
        return [
            Target((section, entity.key), one, f"{path}/{escape(identity(one))}")
            for path, identity, items in _lists(entity)
            if self._has_match(map(identity, items))
            for one in items
            if self._matches(identity(one))
        ]

    def _pods(self, one: Workload) -> Iterator[Target]:
        """Yield the pods on the node, or with the address, that the text names."""
        for pod in one.pods:
            if self._has_match(_belongs_to(pod)):
                yield Target(("workload", one.key), pod, f"pods/{escape(pod.pod_id)}")


def _names_of(section: str, entity: Any) -> list[str]:
    """Return all that an entity may be called."""
    names = [entity.key, f"{section}/{entity.key}"]
    if section in NAME_OF:
        name = NAME_OF[section](entity)
        names += [name, f"{section}/{name}"]
    if isinstance(entity, ModelDeployment):
        names += [entity.id, *entity.aliases]
    if isinstance(entity, Finding) and entity.root.kind:
        names += [str(entity.root.name), f"{entity.root.kind}/{entity.root.name}"]
    return names


def _belongs_to(entity: Any) -> list[str]:
    """Return the names that an entity or a pod has in common with others."""
    if isinstance(entity, Queue):
        return [entity.consumer_group] if entity.consumer_group else []
    if isinstance(entity, ModelDeployment):
        names = [f"model/{entity.model}", entity.upstream_model, entity.provider]
        names += [f"provider/{entity.provider}"]
    elif isinstance(entity, Pod):
        names = [entity.node, f"node/{entity.node}", entity.ip]
    else:
        return []
    return [name for name in names if name]


_POD_ID, _ID = attrgetter("pod_id"), attrgetter("id")


def _lists(entity: Any) -> Sequence[tuple[str, Callable[[Any], str], Sequence[Any]]]:
    """Return the lists whose items have ids: their path, what returns the id, the items."""
    if isinstance(entity, Workload):
        return [("pods", _POD_ID, entity.pods)]
    if isinstance(entity, Queue):
        return [("tasks", _ID, entity.tasks)]
    if isinstance(entity, Agent):
        tasks = entity.activity.active_task_ids
        ended = entity.activity.ended
        return [
            ("instances", _ID, entity.instances),
            ("activity/active_task_ids", _ID, tasks),
            ("activity/ended", _ID, ended),
        ]
    return ()


class Joins:
    """The entities that belong to some targets; run all `steps` before use.

    Two entities are joined if one needs a term that the other provides.
    """

    def __init__(self, survey: Survey, targets: Sequence[Target]) -> None:
        self._survey = survey
        self._ids: dict[Id, None] = {}
        self._provided: set[Term] = set()
        self._needed: set[Term] = set()
        for target in targets:
            self._add(target)

    def _add(self, target: Target) -> None:
        entity = self._survey.get(target.id)
        if isinstance(entity, Finding):
            self._ids |= dict.fromkeys(ends(entity))
            return
        self._ids[target.id] = None
        if isinstance(target.item, Task):
            self._needed.update(_of_task(target.item))
        elif isinstance(target.item, Ended):
            self._needed.add(("queue", target.item.queue))
        else:
            self._provided.update(_provides(entity))
            self._needed.update(_needs(entity))

    def steps(self) -> Iterator[None]:
        """Look at every entity; yield after each."""
        self._kinds_needed = {kind for kind, name in self._needed if name}
        self._kinds_provided = {kind for kind, _ in self._provided}
        for section in NAME_OF:
            for fragment in self._survey.snapshot.sections[section].rope:
                if self._is_joined(fragment.entity):
                    self._ids.setdefault((section, fragment.entity.key))
                yield

    def ids(self) -> list[Id]:
        """Return the targets' entities, then those that they belong to or need."""
        return list(self._ids)

    def _is_joined(self, entity: Any) -> bool:
        # Most entities need none of these kinds; their terms are many.
        is_needed = self._kinds_needed & _PROVIDED[type(entity)]
        if is_needed and not self._needed.isdisjoint(_provides(entity)):
            return True
        if self._kinds_provided & _NEEDED.get(type(entity), frozenset()):
            return not self._provided.isdisjoint(_needs(entity))
        return False


Term = tuple[str, str | None]
"""A kind, and a name or key."""


_PROVIDED: Mapping[type, Set[str]] = {
    Workload: {"workload", "host"},
    ModelDeployment: {"llm"},
    Agent: {"agent"},
    Queue: {"queue"},
}
_NEEDED: Mapping[type, Set[str]] = {
    Queue: {"host"},
    Agent: {"workload", "queue", "llm", "agent"},
}
"""The kinds of the terms of each type."""


def _provides(entity: Any) -> Iterator[Term]:
    if isinstance(entity, Workload):
        yield "workload", entity.key
        yield from (("host", pod.ip) for pod in entity.pods if pod.ip)
    elif isinstance(entity, ModelDeployment):
        yield from [("llm", name) for name in (entity.model, *entity.aliases)]
    elif isinstance(entity, Agent | Queue):
        yield "agent" if isinstance(entity, Agent) else "queue", entity.name


def _needs(entity: Any) -> Iterator[Term]:
    if isinstance(entity, Queue):
        yield from [("host", one.host) for one in entity.members]
    elif isinstance(entity, Agent):
        yield from [("workload", one.workload) for one in entity.instances]
        yield from [("queue", name) for name in entity.queues]
        yield from [("llm", name) for name in entity.models]
        for task in entity.activity.active_task_ids:
            yield from _of_task(task)


def _of_task(task: Task) -> list[Term]:
    waits = [(wait.kind, wait.name) for wait in task.waits]
    return [("queue", task.queue), ("llm", task.model), *waits]
