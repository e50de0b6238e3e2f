"""Fixtures of the tests against real servers."""

from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.real import controlplane
from tests.real import toxiproxy as toxic
from tests.real.nightly import IS_NIGHTLY


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
    """Give real servers their time."""
    for item in items:
        if "tests/real/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(3600 if IS_NIGHTLY else 300))


class Files(LoadScopeScheduling):
    """Give the tests of a file the same worker, and those of the image, which is built once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "image" if file.startswith("tests/real/deploy/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Files:
    """`--dist loadgroup` would do, but xdist 3.8 forgets the groups with pytest 9.2."""
    return Files(config, log)
