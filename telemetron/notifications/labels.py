"""Stable names of a finding's root: never a task, an instance, a pod or a text."""

from collections.abc import Iterator
from typing import Any

from telemetron.document import Finding
from telemetron.store.snapshot import Snapshot

NAMES = {
    "agents": {"namespace": "namespace", "agent": "name"},
    "queues": {"queue": "name", "group": "consumer_group"},
    "litellm": {"model": "model"},
    "workload": {"namespace": "namespace", "workload": "deployment_name"},
    "sources": {"source": "key"},
}
"""By section the labels, each with the field of the entity."""
KINDS = {"llm": "model"} | {
    kind: kind for kind in ("agent", "model", "node", "provider", "queue", "tool")
}
"""By kind of a cause that is no entity the label of its name, in place of the entity's labels."""


def labels_of(finding: Finding, snapshot: Snapshot) -> dict[str, str]:
    """Return the labels that, with its rule and severity, identify what a finding is about."""
    root = finding.root
    if root.kind is None:
        found = dict(_of_entity(root.section, _entity(snapshot, root.section, root.key)))
    else:
        found = {KINDS[root.kind]: root.name} if root.kind in KINDS and root.name else {}
    return {"section": root.section, **found}


def sources_of(finding: Finding, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the sources that observe the root; none if it is a source itself."""
    entity = _entity(snapshot, finding.root.section, finding.root.key)
    if entity is None or finding.root.section == "sources":
        return ()
    names = entity.sources if hasattr(entity, "sources") else (entity.source,)
    return tuple(name for name in names if name)


def _entity(snapshot: Snapshot, section: str, key: str) -> Any:
    shown = snapshot.sections.get(section)
    fragment = shown.rope.get(key) if shown else None
    return fragment.entity if fragment else None


def _of_entity(section: str, entity: Any) -> Iterator[tuple[str, str]]:
    for label, field in NAMES.get(section, {}).items():
        value = getattr(entity, field, None)
        if value:
            yield label, str(value)
