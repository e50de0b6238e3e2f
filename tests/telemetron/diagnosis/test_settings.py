from typing import Any

import msgspec
import pytest

from telemetron.diagnosis.rule import Symptom
from telemetron.diagnosis.settings import FindingsSettings, Ignored


@pytest.mark.parametrize(
    ("given", "is_covered"),
    [
        ({}, True),
        ({"rule": "NoConsumers"}, True),
        ({"rule": "No*", "key": "kafka/batch-*/*"}, True),
        ({"rule": "QueueStuck"}, False),
        ({"key": "kafka/other-*/*"}, False),
    ],
)
def test_a_symptom_is_ignored_by_its_rule_and_key(given: dict[str, str], is_covered: bool) -> None:
    symptom = Symptom("NoConsumers", "queues", "kafka/batch-1/g", "", [])
    assert Ignored(**given).covers(symptom) is is_covered


@pytest.mark.parametrize(
    "given",
    [
        {"rules": {"NoConsumers": {"hold_seconds": -1}}},
        {"rules": {"NoConsumers": {"severity": "fatal"}}},
        {"rules": {"NoConsumers": {"hold": 1}}},
        {"rules": {"NoConsumers": "on"}},
        {"ignore": [{"section": "queues"}]},
    ],
)
def test_invalid_settings_are_refused(given: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, FindingsSettings)
