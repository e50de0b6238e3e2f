"""Words of summaries agree with their numbers."""

from telemetron.diagnosis.words import be, counted, verb, wait


def test_one_is_singular_and_every_other_number_is_plural() -> None:
    assert [wait(count) for count in (0, 1, 2)] == ["0 tasks wait", "1 task waits", "2 tasks wait"]
    assert [counted(count, "pod") for count in (0, 1, 2)] == ["0 pods", "1 pod", "2 pods"]
    assert [(be(count), verb(count, "run")) for count in (1, 2)] == [("is", "runs"), ("are", "run")]
