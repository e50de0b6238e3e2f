"""Groups: parts that are merged together, the entities they become, and who may show a key."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from telemetron.edition import Edition
from telemetron.measure import state_of
from telemetron.part import Part
from telemetron.rope import Fragment
from telemetron.section import Section


class Group:
    """The parts of one group, and what is shown of them."""

    def __init__(self, section: str, id: str) -> None:
        self.section = section
        self.id = id
        self.parts: dict[tuple[str, str], Part] = {}
        self.shown: dict[str, Fragment | None] = {}
        """By key; None: claimed, but another group shows it."""


class Kind:
    """What is made once of a section: the decoder that checks its parts, and its measures."""

    def __init__(self, section: Section) -> None:
        self.merge = section.merge
        self.sources = section.sources
        self.state = state_of(section.entity)
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

    def merged(self, group: Group) -> dict[str, Any]:
        """The group's entities by key; raises what the section's merge raises."""
        entities = self.kinds[group.section].merge(list(group.parts.values()))
        return {entity.key: entity for entity in entities} if group.parts else {}

    def show(self, group: Group, entities: Mapping[str, Any], edition: Edition) -> Iterator[Group]:
        """Stage what changed; yields the groups for which this decides a claim: merge them too."""
        for key in group.shown.keys() - entities.keys():
            yield from self._withdraw(group, key, edition)
        kind = self.kinds[group.section]
        for key, entity in entities.items():
            yield from self._claim(group, key)
            mine = self._claims[group.section, key][0] == group.id
            old = group.shown.get(key)
            group.shown[key] = (
                edition.show(group.section, entity, old, kind.state, kind.sources) if mine else None
            )
        if not group.parts:
            self._groups.pop((group.section, group.id), None)

    def rivals(self, group: Group) -> list[str]:
        """The keys that the group claims and another group shows."""
        return [key for key, fragment in group.shown.items() if fragment is None]

    def _claim(self, group: Group, key: str) -> Iterator[Group]:
        """Stand in line for a key; whoever showed it until now has to look again."""
        claims = self._claims.get((group.section, key), ())
        if group.id in claims:
            return
        self._claims[group.section, key] = tuple(sorted((*claims, group.id)))
        if claims and group.id < claims[0]:
            yield self._groups[group.section, claims[0]]

    def _withdraw(self, group: Group, key: str, edition: Edition) -> Iterator[Group]:
        """Leave the line; the next one in it shows the key."""
        old = group.shown.pop(key)
        at = group.section, key
        claims = tuple(id for id in self._claims.pop(at) if id != group.id)
        if claims:
            self._claims[at] = claims
        if old is not None:
            edition.drop(group.section, old, self.kinds[group.section].sources)
            yield from (self._groups[group.section, id] for id in claims[:1])
