"""Causes: which symptom another one explains, and which are left as roots."""

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
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
    provides: frozenset[Node]
    depends: frozenset[Node]
    weight: int
    """Of two that explain each other the heavier one is the root."""
    is_raised: bool = True
    """Whether its hold is over."""
    is_shown: bool = False
    """Whether it is a finding by now."""


def roots(cases: Mapping[Id, Case]) -> Steps[dict[Id, list[Id]]]:
    """Find each root with its effects, direct and indirect; every case is one or the other.

    Of a ring of cases that explain each other, one is the root. What is shown and explained only by
    a root that is not raised yet stays a root itself until then: it does not vanish meanwhile.
    """
    found = yield from _roots(cases)
    explained = {id for root in found if cases[root].is_raised for id in (root, *found[root])}
    left = {id: one for id, one in cases.items() if one.is_shown and id not in explained}
    return found | (yield from _roots(left))


def _roots(cases: Mapping[Id, Case]) -> Steps[dict[Id, list[Id]]]:
    causes = yield from _causes(cases)
    above: dict[Id, set[Id]] = {}
    for id in cases:
        above[id] = _above(id, causes)
        yield
    found: dict[Id, list[Id]] = {}
    for id in cases:
        yield
        ring = [other for other in above[id] if id in above[other]]
        if len(ring) == len(above[id]) and id == _head([id, *ring], cases):
            found[id] = []
    for id in cases:
        yield
        for cause in above[id]:
            if cause in found and cause != id:
                found[cause].append(id)
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


def _above(id: Id, causes: Mapping[Id, Sequence[Id]]) -> set[Id]:
    """All that explains it, directly or not; itself only if it is in a ring."""
    found: set[Id] = set()
    queue = list(causes[id])
    while queue:
        one = queue.pop()
        if one not in found:
            found.add(one)
            queue += causes[one]
    found.discard(id)
    return found


def _head(ring: Sequence[Id], cases: Mapping[Id, Case]) -> Id:
    """The heaviest of a ring, else the one that began first."""

    def order(id: Id) -> tuple[int, float, str]:
        since = cases[id].since
        return -cases[id].weight, since.timestamp() if since else float("inf"), str(id)

    return min(ring, key=order)
