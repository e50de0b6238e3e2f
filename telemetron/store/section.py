"""The sections of the document: how the parts of one group become entities."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.document import Agent, ModelDeployment, Queue, Workload
from telemetron.store.agents import merge_agents
from telemetron.store.measure import Same, same_state
from telemetron.store.part import Part


@dataclass(frozen=True)
class Section:
    """One section: the types of its entities and parts, and the merge from parts to entities.

    A merge is a pure function; the order of the parts must not matter. If it returns two entities
    with one key, the store shows the first.
    """

    entity: type[Struct]
    part: Any
    merge: Callable[[Sequence[Part]], Iterable[Any]]
    sources: Callable[[Any], Sequence[str]] = lambda entity: (entity.source,)

    @cached_property
    def same(self) -> Same:
        """Compares two entities without their measures."""
        return same_state(self.entity)

    @cached_property
    def decoder(self) -> "msgspec.json.Decoder[Any]":
        """Decodes, and so validates, a part."""
        return msgspec.json.Decoder(self.part)


def each(*components: str) -> Callable[[Sequence[Part]], Iterable[Any]]:
    """Return a merge that makes every part an entity; its key is its source and these fields."""

    def merge(parts: Sequence[Part]) -> Iterable[Any]:
        for part in sorted(parts, key=attrgetter("source", "id")):
            names = [getattr(part.value, name) for name in components]
            yield msgspec.structs.replace(
                part.value, key=key.join(part.source, *names), source=part.source
            )

    return merge


SECTIONS: dict[str, Section] = {
    "agents": Section(Agent, AgentPart, merge_agents, lambda agent: agent.sources),
    "litellm": Section(ModelDeployment, ModelDeployment, each("id")),
    "queues": Section(Queue, Queue, each("name", "consumer_group")),
    "workload": Section(Workload, Workload, each("namespace", "kind", "deployment_name")),
}
