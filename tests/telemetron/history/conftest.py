"""Fixtures: a store with its timeline, with and without limits."""

from contextlib import ExitStack

import pytest

from tests.telemetron.history.system import System


@pytest.fixture
def limited(tmp_path):
    """`limited(unwritten_weight=5)`: a system with this limit."""
    with ExitStack() as stack:

        def limited(**limits):
            system = System(tmp_path / "history.db", **limits)
            stack.callback(system.close)
            return system

        yield limited


@pytest.fixture
def system(limited):
    return limited()
