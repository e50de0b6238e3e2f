"""The system that the tests of one task ask."""

from collections.abc import Iterator

import pytest

from tests.telemetron.answers.whereabouts import Whereabouts


@pytest.fixture
def system() -> Iterator[Whereabouts]:
    made = Whereabouts()
    yield made
    made.close()
