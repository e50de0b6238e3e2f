"""Causes: which symptom another one explains, and which are left as roots."""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from telemetron.diagnosis.rule import Node

SLACK = timedelta(minutes=10)
"""How much later than its effect a cause may seem to have begun: clocks differ, a crash loop shows
only its latest crash, and a task may have waited in peace before."""


Id = tuple[str, ...]
"""Of a symptom."""

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work that yields between its steps and returns a result."""


class Case(NamedTuple):
    """A symptom, reduced to what explains and is explained."""

    entity: tuple[str, str]
    """Section and key."""
    since: datetime | None
    provides: tuple[Node, ...]
    depends: tuple[Node, ...]
    """Neither has a node twice."""
    weight: int
    """Of two that explain each other the heavier one is the root."""
    is_raised: bool = True
    """Whether its hold is over."""
    is_shown: bool = False
    """Whether it is a finding by now."""


class Causes:
    """All cases and the roots among them, which are found again only where something changes."""

    def __init__(self) -> None:
        self.roots: dict[Id, list[Id]] = {}
        """Each root with its effects; every case is one or the other."""
        self._cases: dict[Id, Case] = {}
        self._changed: dict[Id, None] = {}
        self._providers: defaultdict[Node, dict[Id, None]] = defaultdict(dict)
        self._dependents: defaultdict[Node, dict[Id, None]] = defaultdict(dict)

    def set(self, id: Id, case: Case | None) -> None:
        """Enter a case as it is now, None if it is over."""
        self._changed[id] = None
        old = self._cases.get(id)
        if case == old:
            return
        if old is not None:
            self._changed |= dict.fromkeys(self._joined(old))
            _drop(self._providers, old.provides, id)
            _drop(self._dependents, old.depends, id)
            del self._cases[id]
        if case is not None:
            self._cases[id] = case
            for node in case.provides:
                self._providers[node][id] = None
            for node in case.depends:
                self._dependents[node][id] = None

    def update(self) -> Steps[dict[Id, None]]:
        """Find the roots again among the changed cases and all that edges join with them.

        Returns the ids of these cases, also of those that are over.
        """
        reached, self._changed = self._changed, {}
        queue = list(reached)
        while queue:
            case = self._cases.get(queue.pop())
            new = [one for one in self._joined(case) if one not in reached] if case else ()
            reached |= dict.fromkeys(new)
            queue += dict.fromkeys(new)
            yield
        found = yield from roots({id: self._cases[id] for id in reached if id in self._cases})
        for id in reached:
            self.roots.pop(id, None)
        self.roots |= found
        return reached

    def _joined(self, case: Case) -> Iterator[Id]:
        """Yield the cases that it may explain, and those that may explain it."""
        for node in case.provides:
            yield from self._dependents.get(node, ())
        for node in case.depends:
            yield from self._providers.get(node, ())


def roots(cases: Mapping[Id, Case]) -> Steps[dict[Id, list[Id]]]:
    """Find each root with its effects, direct and indirect; every case is one or the other.

    Of a ring of cases that explain each other, one is the root. What is shown and explained only by
    a root that is not raised yet stays a root itself until then: it does not vanish meanwhile.
    """
    found = yield from _roots(cases)
    explained = {id for root in found if cases[root].is_raised for id in (root, *found[root])}
    left = {id: one for id, one in cases.items() if one.is_shown and id not in explained}
    return found | (yield from _roots(left)) if left else found


def _roots(cases: Mapping[Id, Case]) -> Steps[dict[Id, list[Id]]]:
    causes = yield from _causes(cases)
    effects: dict[Id, list[Id]] = {id: [] for id in cases}
    for id, above in causes.items():
        for one in above:
            effects[one].append(id)
        yield
    found: dict[Id, list[Id]] = {}
    covered: set[Id] = set()
    for id in (yield from _causes_first(effects)):
        if id not in covered:
            ring = _reached(id, causes)  # nothing else explains it, or that would have come first
            root = _head(ring, cases)
            below = _reached(root, effects)
            covered |= below.keys()
            found[root] = [one for one in below if one != root]
            yield
    return found


def _causes(cases: Mapping[Id, Case]) -> Steps[dict[Id, list[Id]]]:
    providers: defaultdict[Node, list[Id]] = defaultdict(list)
    for id, case in cases.items():
        for node in case.provides:
            providers[node].append(id)
        yield
    found: dict[Id, list[Id]] = {}
    for id, case in cases.items():
        known = dict.fromkeys(one for node in case.depends for one in providers.get(node, ()))
        found[id] = [one for one in known if one != id and _may_cause(cases[one], case)]
        yield
    return found


def _may_cause(cause: Case, effect: Case) -> bool:
    if cause.entity == effect.entity or cause.since is None or effect.since is None:
        return True
    return cause.since <= effect.since + SLACK


def _causes_first(effects: Mapping[Id, Sequence[Id]]) -> Steps[list[Id]]:
    """Return all ids, each before those below it that do not explain it in turn.

    That is the order in which a search in depth leaves them, the other way round.
    """
    left: list[Id] = []
    seen: set[Id] = set()
    for start in effects:
        trail = [(start, iter(effects[start]))] if start not in seen else []
        seen.add(start)
        while trail:
            new = next((one for one in trail[-1][1] if one not in seen), None)
            if new is None:
                left.append(trail.pop()[0])
            else:
                seen.add(new)
                trail.append((new, iter(effects[new])))
            yield
    return left[::-1]


def _reached(id: Id, edges: Mapping[Id, Sequence[Id]]) -> dict[Id, None]:
    """It, and all that these edges lead to from it."""
    found = {id: None}
    queue = [id]
    while queue:
        new = [one for one in edges[queue.pop()] if one not in found]
        found |= dict.fromkeys(new)
        queue += new
    return found


def _head(ring: Iterable[Id], cases: Mapping[Id, Case]) -> Id:
    """The heaviest of a ring, else the one that began first."""

    def order(id: Id) -> tuple[int, float, str]:
        since = cases[id].since
        return -cases[id].weight, since.timestamp() if since else float("inf"), str(id)

    return min(ring, key=order)


def _drop(ids: defaultdict[Node, dict[Id, None]], nodes: Iterable[Node], id: Id) -> None:
    for node in nodes:
        ids[node].pop(id, None)
        if not ids[node]:
            del ids[node]
