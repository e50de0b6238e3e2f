"""Fixtures of the tests against real servers."""

from collections.abc import Iterator

import pytest

from tests.real import controlplane
from tests.real import toxiproxy as toxic


@pytest.fixture(scope="session")
def toxiproxy() -> Iterator[toxic.Toxiproxy]:
    """A TCP proxy that fails as it is told."""
    with toxic.toxiproxy() as server:
        yield server


@pytest.fixture(scope="session")
def control_plane() -> Iterator[controlplane.ControlPlane]:
    """A Kubernetes control plane with two nodes; each test takes namespaces of its own."""
    with controlplane.control_plane() as plane:
        for node in ("node-1", "node-2"):
            plane.call("POST", "/api/v1/nodes", {"metadata": {"name": node}})
        yield plane


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A real server takes its time to start, to fail and to come back."""
    for item in items:
        if "tests/real/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(180))
