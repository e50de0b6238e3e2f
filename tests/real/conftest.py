"""Fixtures of the tests against real servers."""

import fcntl
import os
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


@pytest.hookimpl(tryfirst=True)  # or xdist's own hook, which reads the groups, would come first
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give real servers their time, and the tests of one server the same worker."""
    for item in items:
        if "tests/real/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(360))  # of which it may wait for one that is alone
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    fixtures = getattr(item, "fixturenames", ())
    shared = ("control_plane", "kafka", "cluster")
    if name := next((name for name in shared if name in fixtures), None):
        return name
    if "tests/real/litellm/" in item.nodeid:
        return "litellm"  # proxies that start beside each other change each other's metrics
    # Plays go on beside the tests of their module, so a test alone must not run beside them.
    is_alone = "plays" in fixtures or item.get_closest_marker("alone")
    return "alone" if is_alone else item.nodeid.partition("::")[0]


@pytest.fixture(autouse=True)
def _turn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let a test that is marked `alone` wait for those of other workers, and those for it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers share
    alone = request.node.get_closest_marker("alone") is not None
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # or new tests would enter for ever before one alone
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
