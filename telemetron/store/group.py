"""Groups: parts that are merged together, the entities they become, and who may show a key."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import msgspec

from telemetron.store.edition import Edition, encode
from telemetron.store.measure import same_state
from telemetron.store.part import Part
from telemetron.store.section import Section

NOBODY: Set[str] = frozenset()


class Group:
    """The parts of one group, and what is shown of them."""

    __slots__ = ("blamed", "claims", "hidden", "id", "parts", "section")

    def __init__(self, section: str, id: str) -> None:
        self.section = section
        self.id = id
        self.parts: dict[tuple[str, str], Part] = {}
        self.claims: dict[str, Sequence[str] | None] = {}
        """By key, the sources of the entity; None: another group shows the key."""
        self.hidden: tuple[str, ...] = ()
        """Keys of entities that are not shown, because another has that key."""
        self.blamed: Set[str] = NOBODY
        """Sources that were told of a problem with the group."""


class Kind:
    """What is made once of a section: the decoder that checks its parts, and its measures."""

    def __init__(self, section: Section) -> None:
        self.merge = section.merge
        self.sources = section.sources
        self.same = same_state(section.entity)
        self.decoder = msgspec.json.Decoder(section.part)


class Groups:
    """All groups of all sections.

    Where two groups claim one key, the one with the smaller id shows its entity.
    """

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self.kinds = {name: Kind(section) for name, section in sections.items()}
        self._groups: dict[tuple[str, str], Group] = {}
        self._claims: dict[tuple[str, str], tuple[str, ...]] = {}

    def place(self, part: Part) -> Group:
        """Put a part into its group."""
        at = part.section, part.group
        group = self._groups.get(at) or self._groups.setdefault(at, Group(*at))
        group.parts[part.source, part.id] = part
        return group

    def take(self, part: Part) -> Group:
        """Take a part out of its group."""
        group = self._groups[part.section, part.group]
        del group.parts[part.source, part.id]
        return group

    def merged(self, group: Group) -> dict[str, tuple[Any, bytes]]:
        """The group's entities and their bytes by key; raises what merging or encoding raises."""
        entities: dict[str, tuple[Any, bytes]] = {}
        group.hidden = ()
        if group.parts:
            for entity in self.kinds[group.section].merge(list(group.parts.values())):
                if entity.key in entities:
                    group.hidden += (entity.key,)
                else:
                    entities[entity.key] = entity, encode(entity)
        return entities

    def show(
        self, group: Group, entities: Mapping[str, tuple[Any, bytes]], edition: Edition
    ) -> Iterator[Group]:
        """Stage what changed; yields the groups for which this decides a claim: merge them too."""
        for key in [key for key in group.claims if key not in entities]:
            yield from self._withdraw(group, key, edition)
        kind = self.kinds[group.section]
        for key, (entity, body) in entities.items():
            if key not in group.claims:
                yield from self._claim(group, key)
            sources = None
            if self._claims[group.section, key][0] == group.id:
                sources = kind.sources(entity)
                edition.show(group.section, entity, body, kind.same)
            else:
                group.hidden += (key,)
            edition.count(sources, group.claims[key])
            group.claims[key] = sources
        if not group.parts and self._groups.get((group.section, group.id)) is group:
            del self._groups[group.section, group.id]

    def _claim(self, group: Group, key: str) -> Iterator[Group]:
        """Stand in line for a key; whoever showed it until now has to look again."""
        rivals = self._claims.get((group.section, key), ())
        self._claims[group.section, key] = tuple(sorted((*rivals, group.id)))
        group.claims[key] = None
        if rivals and group.id < rivals[0]:
            yield self._groups[group.section, rivals[0]]

    def _withdraw(self, group: Group, key: str, edition: Edition) -> Iterator[Group]:
        """Leave the line; the next one in it shows the key."""
        line = self._claims.pop((group.section, key))
        rest = tuple(id for id in line if id != group.id)
        if rest:
            self._claims[group.section, key] = rest
        edition.count(None, group.claims.pop(key))
        if line[0] == group.id:
            edition.drop(group.section, key)
            yield from (self._groups[group.section, id] for id in rest[:1])
