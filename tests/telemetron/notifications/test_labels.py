"""Labels are stable names: of the root's entity, or of a cause that is no entity."""

import pytest
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.document import ModelDeployment, Queue, Root, Workload
from telemetron.notifications.labels import labels_of, sources_of
from telemetron.store.store import Store
from telemetron.testing import FakeClock
from tests.telemetron.notifications.stage import finding


def store() -> Store:
    """One entity of each section, of the source `seen`."""
    made = Store("atlas", FakeClock())
    source = made.add("seen", "test")
    source.start(60)
    workload = Workload(namespace="prod", kind="Deployment", deployment_name="writer")
    made.put(source, "queues", "q", "q", Queue(name="plans", consumer_group="planner"))
    made.put(source, "workload", "w", "w", workload)
    made.put(source, "litellm", "m", "m", ModelDeployment(id="1", model="gpt-5"))
    made.put(source, "agents", "planner", "prod/planner", AgentPart(namespace="prod"))
    made.flush()
    return made


def labelled(
    section: str, key: str = "", kind: str | None = None, path: str | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the labels and the sources of a finding; without a key it is about the entity."""
    snapshot = store().snapshot
    key = key or next(snapshot.sections[section].rope.every_key())
    name = "x" if kind else None
    one = replace(finding(), root=Root(section, key, path, kind, name))
    return labels_of(one, snapshot), sources_of(one, snapshot)


@pytest.mark.parametrize(
    ("section", "labels"),
    [
        ("queues", {"queue": "plans", "group": "planner"}),
        ("agents", {"namespace": "prod", "agent": "planner"}),
        ("workload", {"namespace": "prod", "workload": "writer"}),
        ("litellm", {"model": "gpt-5"}),
    ],
)
def test_an_entity_is_named_by_its_stable_names(section: str, labels: dict[str, str]) -> None:
    found = labelled(section, path="tasks/t-1")
    assert found == ({"section": section} | labels, ("seen",))


def test_a_source_is_named_and_hides_no_finding_about_itself() -> None:
    assert labelled("sources", "seen") == ({"section": "sources", "source": "seen"}, ())


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("node", {"node": "x"}), ("llm", {"model": "x"}), ("tool", {"tool": "x"}), ("human", {})],
)
def test_a_cause_that_is_no_entity_is_named_by_its_kind(kind: str, labels: dict[str, str]) -> None:
    assert labelled("queues", kind=kind)[0] == {"section": "queues"} | labels


def test_an_entity_that_is_gone_has_no_names() -> None:
    assert labelled("queues", "gone") == ({"section": "queues"}, ())
