import pytest

from telemetron_collectors.kubernetes.annotations import Declaration, declared
from telemetron_collectors.kubernetes.api.objects import Annotations


def test_first_object_that_names_an_agent_declares_all():
    first = Annotations(agent="a", models="m")
    second = Annotations(agent="b", description="d", queues="q")
    assert declared(None, Annotations(description="none"), first, second) == Declaration(
        "a", models=("m",)
    )
    assert declared(Annotations(agent=" ")) is None
    assert declared() is None


def test_names_are_separated_by_commas():
    assert declared(Annotations(agent="a", queues=" q2,,q1 ,q1")).queues == ("q1", "q2")
    many = ",".join(str(number) for number in range(100))
    assert (
        len(declared(Annotations(agent="a", models=many)).models) == 100
    )  # the agent says how many were cut


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("4", 4),
        (" 4 ", 4),
        ("0", None),
        ("-1", None),
        ("many", None),
        ("²", None),
        ("9" * 5000, None),
    ],
)
def test_max_parallel_invocations_is_a_positive_number(written, number):
    found = declared(Annotations(agent="a", max_parallel=written))
    assert found.max_parallel_invocations == number
    assert found.invalid == (None if number else "max-parallel-invocations")
