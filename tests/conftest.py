"""Fixtures for all tests: a real server on a free port, and a watch for blocking calls."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from blockbuster import blockbuster_ctx

if TYPE_CHECKING:
    from telemetron.web.app import App


class Live(NamedTuple):
    """A running Telemetron: its application, a client, its base URL."""

    app: "App"
    client: httpx.AsyncClient
    url: str


TLS = Path(__file__).parent / "data" / "tls"
"""A certificate for tests on loopback, and its key; the password is `hunter2`."""

Serving = Callable[..., AbstractAsyncContextManager[Live]]


def pytest_configure() -> None:
    """Restore Ctrl-C, which a shell disables in background jobs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("LOGURU_LEVEL", "INFO")  # else each change of a status is printed
    with suppress(ImportError):  # the tests of the agent SDK run without it
        from hypothesis import HealthCheck, settings

        # An example that takes long says that the machine is busy.
        slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.register_profile("tests", slow)
        settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """A call that blocks the event loop, made by our code, is an error."""
    with blockbuster_ctx(scanned_modules=["telemetron", "telemetron_collectors"]) as blockbuster:
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            # What measures coverage takes its own lock inside whatever function it measures.
            blockbuster.functions[name].can_block_in("coverage/collector.py", "lock_data")
        for function in blockbuster.functions.values():
            # A traceback is read from files; only a crash of ours is logged with one.
            function.can_block_in("loguru/_better_exceptions.py", "_is_file_mine")
            function.can_block_in("linecache.py", "updatecache")
            # It runs in a thread, with an event loop of its own.
            function.can_block_in(
                "telemetron_collectors/kubernetes/api/credentials.py", "_kubeconfig"
            )
        yield


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """`async with serving("id: prod") as live`: the server with this configuration."""

    # Tests of the agent SDK run where Telemetron is not installed.
    from telemetron.config.settings import load
    from telemetron.service.service import Service
    from telemetron.service.supervisor import SupervisorLimits
    from telemetron.web.app import App, server_options
    from telemetron.web.server.server import running

    @asynccontextmanager
    async def serve(
        config: str = "", limits: Mapping[str, Any] | None = None, **headers: str
    ) -> AsyncIterator[Live]:
        """`limits` are further arguments of the service, which waits here until all is loaded."""
        file = tmp_path / "telemetron.yaml"
        file.write_text(config)
        settings = await asyncio.to_thread(load, str(file), {"SERVER_PORT": "0"})
        patient = {"limits": SupervisorLimits(start_seconds=30)}
        app = App(Service(settings, **(patient | dict(limits or {}))))
        # A test that asks for nothing encoded sees the bytes as they are.
        headers = {"accept-encoding": "identity", **headers}
        async with (
            running(app, **server_options(app)) as url,
            # Loading the authorities of TLS would take longer than most tests.
            httpx.AsyncClient(
                base_url=url, headers=headers, trust_env=False, verify=False, timeout=60
            ) as client,
        ):
            yield Live(app, client, url)

    return serve


@pytest.fixture
async def live(serving: Serving) -> AsyncIterator[Live]:
    """The server as it runs without configuration."""
    async with serving() as server:
        yield server


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged from now on, each record as `LEVEL logger: message` with its traceback."""
    from loguru import logger

    lines: list[str] = []
    form = "{level} {name}: {message}"
    sink = logger.add(lines.append, level="DEBUG", format=form, backtrace=False, diagnose=False)
    yield lines
    logger.remove(sink)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from, and distributions found in."""
    from telemetron.config import installed

    site = tmp_path / "site"
    site.mkdir()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(site)
        _let_coverage_see_the_path()
        installed.entry_points.cache_clear()
        yield site
    installed.entry_points.cache_clear()
    _let_coverage_see_the_path()


def _let_coverage_see_the_path() -> None:
    """Once sys.path has changed, it takes back the imports that go on while the next file starts.

    So let that be a file of no importance, before any thread imports.
    """
    exec(compile("", f"{uuid4()}.py", "exec"))
