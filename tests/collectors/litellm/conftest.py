"""Fixtures: a scripted proxy, and the collector before it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.collectors.litellm.scripted import KEY, Bench, ScriptedProxy


@pytest.fixture
async def proxy() -> AsyncIterator[ScriptedProxy]:
    server = ScriptedProxy()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bench(proxy: ScriptedProxy) -> AsyncIterator[Bench]:
    bench = Bench(proxy)
    yield bench
    if bench.running:
        bench.running.cancel()
        await asyncio.wait([bench.running])


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[str], str]:
    """Writes the key; gives the file's name."""

    def write(key: str = KEY) -> str:
        file = tmp_path / "key"
        file.write_text(key + "\n")
        return str(file)

    return write
