"""The plays of a module: all that its tests await are played at once."""

from collections.abc import Iterator

import pytest

from tests.real.incidents.pool import Pool, pool


@pytest.fixture(scope="module")
def plays(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Play every run that a selected test has as its parameter, in the tests' order."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    with pool() as made:
        made.add(spec.params["run"] for spec in specs if spec and "run" in spec.params)
        yield made
