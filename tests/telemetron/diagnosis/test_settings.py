"""The key `findings`: which symptoms are ignored."""

import pytest

from telemetron.diagnosis.rule import Symptom
from telemetron.diagnosis.settings import Ignored


@pytest.mark.parametrize(
    ("ignored", "is_covered"),
    [
        (Ignored(), True),
        (Ignored(rule="NoConsumers"), True),
        (Ignored(rule="No*", key="kafka/*"), True),
        (Ignored(key="kafka/a[1]?/g"), True),
        (Ignored(key="*[1]*"), True),
        (Ignored(rule="noconsumers"), False),
        (Ignored(rule="NoConsumer"), False),
        (Ignored(key="kafka/a"), False),
        (Ignored(key="kafka/a[1]??g"), False),
        (Ignored(rule="QueueStuck", key="*"), False),
    ],
)
def test_only_a_star_stands_for_other_characters(ignored: Ignored, is_covered: bool) -> None:
    symptom = Symptom("NoConsumers", "queues", "kafka/a[1]?/g", "5 tasks wait", ())
    assert ignored.covers(symptom) is is_covered
