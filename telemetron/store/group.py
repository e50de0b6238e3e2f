"""Groups: parts that are merged together, the entities they become, and which group shows a key."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from telemetron.store.changeset import Changeset
from telemetron.store.part import Part
from telemetron.store.section import Section
from telemetron.store.snapshot import encode

NO_SOURCES: Set[str] = frozenset()


class Group:
    """The parts of one group, and the keys that their entities claim."""

    __slots__ = ("blamed", "claims", "hidden", "id", "parts", "section")

    def __init__(self, section: str, id: str) -> None:
        self.section = section
        self.id = id
        self.parts: dict[tuple[str, str], Part] = {}
        self.claims: dict[str, Sequence[str] | None] = {}
        """By key, the sources of the entity; None: another group shows the key."""
        self.hidden: tuple[str, ...] = ()
        """Keys of entities that are not shown because another entity has that key."""
        self.blamed: Set[str] = NO_SOURCES
        """Sources that have a problem because of this group."""


class Groups:
    """All groups of all sections.

    If several groups claim one key, the group with the smallest id shows its entity.
    """

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self.sections = sections
        self._groups: dict[tuple[str, str], Group] = {}
        self._claims: dict[tuple[str, str], tuple[str, ...]] = {}
        """By section and key, the ids of the groups that claim it, sorted."""

    def add(self, part: Part) -> Group:
        """Add a part to its group, or replace it there; return the group."""
        at = part.section, part.group
        group = self._groups.get(at) or self._groups.setdefault(at, Group(*at))
        group.parts[part.source, part.id] = part
        return group

    def remove(self, part: Part) -> Group:
        """Remove a part from its group; return the group."""
        group = self._groups[part.section, part.group]
        del group.parts[part.source, part.id]
        return group

    def merge(self, group: Group) -> dict[str, tuple[Any, bytes]]:
        """Return the group's entities and their bytes by key.

        Raises what the section's merge or the encoding raises.
        """
        entities: dict[str, tuple[Any, bytes]] = {}
        group.hidden = ()
        if group.parts:
            for entity in self.sections[group.section].merge(list(group.parts.values())):
                if entity.key in entities:
                    group.hidden += (entity.key,)
                else:
                    entities[entity.key] = entity, encode(entity)
        return entities

    def stage(
        self, group: Group, entities: Mapping[str, tuple[Any, bytes]], changeset: Changeset
    ) -> Iterator[Group]:
        """Stage the group's entities; yield the other groups that this makes show or hide a key.

        The caller must merge and stage those groups too.
        """
        for key in [key for key in group.claims if key not in entities]:
            yield from self._withdraw(group, key, changeset)
        section = self.sections[group.section]
        for key, (entity, body) in entities.items():
            if key not in group.claims:
                yield from self._claim(group, key)
            sources = None
            if self._claims[group.section, key][0] == group.id:
                sources = section.sources(entity)
                changeset.put(group.section, entity, body, section.same)
            else:
                group.hidden += (key,)
            changeset.count(sources, group.claims[key])
            group.claims[key] = sources
        if not group.parts and self._groups.get((group.section, group.id)) is group:
            del self._groups[group.section, group.id]

    def _claim(self, group: Group, key: str) -> Iterator[Group]:
        """Claim a key; yield the group that showed it until now and must hide it."""
        rivals = self._claims.get((group.section, key), ())
        self._claims[group.section, key] = tuple(sorted((*rivals, group.id)))
        group.claims[key] = None
        if rivals and group.id < rivals[0]:
            yield self._groups[group.section, rivals[0]]

    def _withdraw(self, group: Group, key: str, changeset: Changeset) -> Iterator[Group]:
        """Withdraw the claim; yield the group that shows the key from now on."""
        claims = self._claims.pop((group.section, key))
        rest = tuple(id for id in claims if id != group.id)
        if rest:
            self._claims[group.section, key] = rest
        changeset.count(None, group.claims.pop(key))
        if claims[0] == group.id:
            changeset.remove(group.section, key)
            yield from (self._groups[group.section, id] for id in rest[:1])
