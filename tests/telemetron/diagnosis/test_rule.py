"""The identity of a symptom: two symptoms with one id are one case."""

from telemetron.diagnosis.rule import Symptom

SYMPTOM = Symptom("AgentSilent", "agents", "prod/a", "Instance a-0 is silent", [])


def test_a_symptom_is_the_same_whatever_its_summary_says() -> None:
    assert SYMPTOM._replace(summary="Instance a-0 is still silent").id == SYMPTOM.id


def test_items_of_one_entity_have_symptoms_of_their_own() -> None:
    assert SYMPTOM._replace(path="instances/a-0").id != SYMPTOM._replace(path="instances/a-1").id


def test_entities_that_name_the_same_node_share_its_symptom() -> None:
    on_node = SYMPTOM._replace(kind="node", name="node-1")
    assert on_node._replace(key="prod/b").id == on_node.id
    assert on_node._replace(name="node-2").id != on_node.id
