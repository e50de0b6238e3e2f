"""Sections whose parts are their entities."""

from telemetron.document import ModelDeployment, Queue, Workload
from telemetron.store.part import Part
from telemetron.store.section import SECTIONS, each


def test_the_document_has_five_sections() -> None:
    assert list(SECTIONS) == ["findings", "agents", "litellm", "queues", "workload"]


def test_every_part_is_an_entity_under_its_sources_key() -> None:
    queue = Queue(name="a/b", key="nonsense", source="nonsense")
    (entity,) = SECTIONS["queues"].merge([Part("kafka", "queues", "g", "x", "", queue)])
    assert (entity.key, entity.source, entity.name) == ("kafka/a~1b/-", "kafka", "a/b")
    assert SECTIONS["queues"].sources(entity) == ("kafka",)


def test_keys() -> None:
    model = ModelDeployment(id="m", model="gpt")
    (entity,) = SECTIONS["litellm"].merge([Part("proxy", "litellm", "g", "x", "", model)])
    assert entity.key == "proxy/m"
    workload = Workload(deployment_name="d", namespace="n", kind="Job")
    (entity,) = SECTIONS["workload"].merge([Part("k", "workload", "g", "x", "", workload)])
    assert entity.key == "k/n/Job/d"


def test_the_order_of_the_parts_does_not_matter() -> None:
    parts = [
        Part("kafka", "queues", "g", id, "", Queue(name=name))
        for id, name in (("b", "two"), ("a", "one"))
    ]
    merge = each("name")
    assert [entity.name for entity in merge(parts)] == ["one", "two"]
    assert list(merge(parts)) == list(merge(parts[::-1]))
