"""What is deployed: the image, the manifests."""

from collections.abc import Iterator

import pytest

from tests.real.deploy import image as images


@pytest.fixture(scope="session")
def image() -> Iterator[images.Image]:
    """The image of the present sources."""
    if missing := images.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    with images.image() as image:
        yield image
