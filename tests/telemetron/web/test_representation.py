"""Representations: which are kept, how they are compressed, and `If-None-Match`."""

import gzip

import pytest

from telemetron.web.representation import MIN_GZIP_BYTES, Representations, etag, matches
from telemetron.web.waiters import View
from tests.telemetron.web.client import beat

AGENTS = View(("agents",))
PLANNER = View(("agents",), "prod/planner")


@pytest.mark.parametrize(
    ("header", "matched"),
    [
        (b'W/"e.1"', True),
        (b'"e.1"', True),
        (b'"x", W/"e.1"', True),
        (b"*", True),
        (b'W/"e.2"', False),
        (b"e.1", False),
        (b"", False),
    ],
)
def test_if_none_match(header, matched):
    assert matches(header, b'W/"e.1"') == matched


async def test_sections_are_kept_and_entities_are_not(live):
    await beat(live, description="words " * 100)
    found = Representations(live.app.service.store.snapshot)
    assert found.plain(AGENTS) is found.plain(AGENTS)
    assert found.plain(PLANNER) is not found.plain(PLANNER)
    assert found.plain(PLANNER).etag == etag(found.snapshot, PLANNER)
    assert await found.gzip(AGENTS) is await found.gzip(AGENTS)
    with pytest.raises(KeyError):
        found.plain(View(("agents",), "prod/writer"))


async def test_a_compressed_representation_has_the_same_content(live):
    await beat(live, description="words " * 100)
    found = Representations(live.app.service.store.snapshot)
    plain, compressed = found.plain(AGENTS), await found.gzip(AGENTS)
    assert gzip.decompress(b"".join(compressed.chunks)) == b"".join(plain.chunks)
    assert (b"content-encoding", b"gzip") in compressed.start["headers"]
    assert compressed.etag == plain.etag


async def test_a_small_representation_is_not_compressed(live):
    found = Representations(live.app.service.store.snapshot)
    row = View(("sources",), "kafka")
    assert len(b"".join(found.plain(row).chunks)) < MIN_GZIP_BYTES
    assert (await found.gzip(row)).chunks == found.plain(row).chunks
