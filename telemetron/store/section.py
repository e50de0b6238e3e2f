"""The sections of the document: how the parts of one group become entities."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.document import Agent, Finding, ModelDeployment, Queue, Workload
from telemetron.store.agents import merge_agents
from telemetron.store.part import Part


class Section(NamedTuple):
    """One section: the types of its entities and parts, and the way between, a pure function.

    The order of the parts must not matter. Of entities with one key the first is shown.
    """

    entity: type[Struct]
    part: Any
    merge: Callable[[Sequence[Part]], Iterable[Any]]
    sources: Callable[[Any], Sequence[str]] = lambda entity: (entity.source,)


def each(*components: str) -> Callable[[Sequence[Part]], Iterable[Any]]:
    """Every part is an entity; its key is the source and the fields that `components` names."""

    def merge(parts: Sequence[Part]) -> Iterable[Any]:
        for part in sorted(parts, key=attrgetter("source", "id")):
            names = [getattr(part.value, name) for name in components]
            yield msgspec.structs.replace(
                part.value, key=key.join(part.source, *names), source=part.source
            )

    return merge


def _findings(parts: Sequence[Part]) -> Iterable[Any]:
    """A finding has its key already: it is about entities of other sources."""
    return [part.value for part in sorted(parts, key=attrgetter("source", "id"))]


SECTIONS: dict[str, Section] = {
    "findings": Section(Finding, Finding, _findings, lambda finding: ("findings",)),
    "agents": Section(Agent, AgentPart, merge_agents, lambda agent: agent.sources),
    "litellm": Section(ModelDeployment, ModelDeployment, each("id")),
    "queues": Section(Queue, Queue, each("name", "consumer_group")),
    "workload": Section(Workload, Workload, each("namespace", "kind", "deployment_name")),
}
