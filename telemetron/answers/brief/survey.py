"""The survey: all that a brief needs of a snapshot, gathered once for each revision."""

from collections import Counter
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from telemetron.answers.brief import trouble
from telemetron.document import Finding, Root, SourceRow, Workload
from telemetron.store.snapshot import Snapshot

NAME_OF = {
    "agents": attrgetter("name"),
    "queues": attrgetter("name"),
    "litellm": attrgetter("model"),
    "workload": attrgetter("deployment_name"),
}
"""By section: the name that people use, which need not be unique as the key is."""

ITEMS = {"pods": "pod", "instances": "instance", "active_task_ids": "task", "tasks": "task"}
"""The word for an item of each list."""

Id = tuple[str, str]
"""Section and key."""


class Survey:
    """All trouble, and how much is well; run all `steps` before use."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.sources: list[SourceRow] = [one.entity for one in snapshot.sections["sources"].rope]
        found = [one.entity for one in snapshot.sections["findings"].rope]
        self.findings: list[Finding] = sorted(found, key=lambda one: one.rank)
        self.concerned = _concerned(self.findings)
        """The rank of the first finding whose root or effect an entity is."""
        self.unwell: Mapping[str, list[Any]] = {section: [] for section in NAME_OF}
        """By section, the worst first."""
        self.count: Counter[str] = Counter()
        self.pods = self.ready_pods = 0
        self._names: Mapping[str, Counter[str]] = {section: Counter() for section in NAME_OF}

    def steps(self) -> Iterator[None]:
        """Look at every entity; yield after each."""
        for section, name_of in NAME_OF.items():
            judge, names = trouble.OF_SECTION[section], self._names[section]
            ranked: list[tuple[float, int, str, Any]] = []
            for fragment in self.snapshot.sections[section].rope:
                entity = fragment.entity
                names[name_of(entity)] += 1
                self.count[section] += 1
                if section == "workload":
                    self._count_pods(entity)
                rank = self.concerned.get((section, entity.key))
                if (weight := judge(entity)) or rank:
                    ranked.append((rank or float("inf"), -weight, entity.key, entity))
                yield
            self.unwell[section].extend(one[-1] for one in sorted(ranked, key=lambda one: one[:3]))

    def _count_pods(self, workload: Workload) -> None:
        live = workload.live
        if live is not None and live.active_pods is not None:
            self.pods += live.active_pods
            self.ready_pods += min(live.ready or 0, live.active_pods)

    def get(self, id: Id) -> Any:
        """Return the entity, None if there is none."""
        section = self.snapshot.sections.get(id[0])
        fragment = section.rope.get(id[1]) if section else None
        return fragment and fragment.entity

    def name(self, id: Id) -> str:
        """Return the entity's name if no other one of its section has it, else its key."""
        section, key = id
        entity = self.get(id) if section in NAME_OF else None
        name = NAME_OF[section](entity) if entity else key
        return name if entity and self._names[section][name] == 1 else key

    def reference(self, id: Id) -> str:
        """Return the section and the name."""
        return f"{id[0]}/{self.name(id)}"

    def root(self, root: Root) -> str:
        """Return the reference of a cause; its kind and name if it is no entity."""
        if root.kind is not None:
            return f"{root.kind}/{root.name}"
        return self.reference((root.section, root.key))


def ends(finding: Finding) -> list[Id]:
    """Return the entities of the cause and of its effects."""
    effects = [(one.section, one.key) for one in finding.effects]
    return list(dict.fromkeys([(finding.root.section, finding.root.key), *effects]))


def _concerned(findings: list[Finding]) -> dict[Id, int]:
    ranks: dict[Id, int] = {}
    for finding in findings:
        for id in ends(finding):
            ranks.setdefault(id, finding.rank)
    return ranks
