"""A register with a fake clock, for each test a new one."""

import pytest

from tests.collectors.heartbeats.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
