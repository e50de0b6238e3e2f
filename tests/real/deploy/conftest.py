"""What is deployed: the image, and a cluster to apply manifests to."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.real.controlplane import ControlPlane
from tests.real.deploy import image as images
from tests.real.deploy.cluster import Cluster


@pytest.fixture(scope="session")
def image() -> Iterator[images.Image]:
    """The image of the present sources."""
    if missing := images.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    with images.image() as image:
        yield image


@pytest.fixture
def cluster(control_plane: ControlPlane) -> Iterator[Cluster]:
    """A namespace of its own, gone afterwards."""
    cluster = Cluster(control_plane, f"deploy-{uuid4().hex[:8]}")
    yield cluster
    cluster.delete()
