"""Random healthy systems and single faults, more of them than the quick tests play."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.real.nightly import often
from tests.telemetron.diagnosis.test_random import (
    ANY_STEPS,
    FAULTS,
    FEW_STEPS,
    SIZES,
    Service,
    play_fault,
    play_healthy,
)


@settings(max_examples=often(80))
@given(sizes=SIZES, steps=ANY_STEPS)
def test_healthy_systems_raise_no_alarm(sizes: list[int], steps: list[Any]) -> None:
    play_healthy(sizes, steps)


@settings(max_examples=often(80))
@given(sizes=SIZES, fault=st.sampled_from(FAULTS), before=FEW_STEPS, number=st.integers(0, 2))
def test_single_faults_have_one_root(
    sizes: list[int], fault: Callable[[Service], str], before: list[Any], number: int
) -> None:
    play_fault(sizes, fault, before, number)
