"""Start and stop of the server, within a running loop and as a process.

tests/real/test_stop.py measures how long a stop takes.
"""

import asyncio
import json
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from telemetron.web.server.server import HttpServer, StartError, listen, probe_host, running, serve
from tests.conftest import TLS
from tests.telemetron.web.server.program import Program


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers every request with its path and root path."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = json.dumps([scope["path"], scope["root_path"]]).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_the_server_runs_within_a_running_loop() -> None:
    stopped = []
    options: Any = {"on_stop": lambda: stopped.append(True)}
    async with (
        running(app, **options) as url,
        httpx.AsyncClient(base_url=url, timeout=50) as client,
    ):
        response = await client.get("/some")
        assert response.json() == ["/some", ""]
        assert "date" in response.headers
        assert "server" not in response.headers
        assert not stopped
    assert stopped == [True]
    async with httpx.AsyncClient(timeout=50) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_the_root_path_reaches_the_application() -> None:
    async with running(app, root_path="/below") as url, httpx.AsyncClient(timeout=50) as client:
        assert (await client.get(url + "/some")).json() == ["/below/some", "/below"]


async def test_ipv6() -> None:
    async with running(app, host="::1") as url, httpx.AsyncClient(timeout=50) as client:
        assert url.startswith("http://[::1]:")
        assert (await client.get(url)).status_code == 200


async def test_a_wrong_certificate_is_a_start_error() -> None:
    with pytest.raises(StartError, match="cannot use the TLS certificate and key"):
        async with running(app, ssl_certfile=__file__, ssl_keyfile=__file__):
            pass


async def test_a_used_port_is_a_start_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"^cannot listen on 127.0.0.1 port {port}: Address already in use$"
        with pytest.raises(StartError, match=message):
            async with running(app, port=port):
                pass


def test_a_process_with_a_used_port_fails() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(StartError, match="Address already in use"),
    ):
        serve(app, port=other.getsockname()[1])


@asynccontextmanager
async def probed(**options: Any) -> AsyncIterator[HttpServer]:
    """A server with a probe port."""
    server = HttpServer(app, port=0, probe_port=0, probes=other, **options)
    serving = asyncio.ensure_future(server.serve())
    await server.ready.wait()
    try:
        yield server
    finally:
        server.stop()
        await serving


async def other(scope: Any, receive: Any, send: Any) -> None:
    """Another application than `app`."""
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"other"})


async def test_the_probe_port_serves_its_application_on_every_address() -> None:
    async with probed() as server, httpx.AsyncClient(timeout=50) as client:
        assert server.url.startswith("http://127.0.0.1:")
        port = server.probe_url.rpartition(":")[2]
        for host in ("127.0.0.1", "127.0.0.2", "[::1]"):
            assert (await client.get(f"http://{host}:{port}/")).text == "other"
        assert (await client.get(server.url)).json() == ["/", ""]
    async with httpx.AsyncClient(timeout=50) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_the_probe_port_has_no_tls() -> None:
    files = {"ssl_certfile": str(TLS / "cert.pem"), "ssl_keyfile": str(TLS / "key.pem")}
    tls = {**files, "ssl_keyfile_password": "hunter2"}
    async with probed(**tls) as server, httpx.AsyncClient(timeout=50) as client:
        assert server.url.startswith("https://")
        port = server.probe_url.rpartition(":")[2]
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "other"


def test_the_probe_port_is_ipv4_if_the_system_has_no_ipv6() -> None:
    assert probe_host(dualstack=False) == "0.0.0.0"
    with listen("0.0.0.0", 0, 30) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"


async def test_a_used_probe_port_is_a_start_error() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on :: port {port}"):
            async with running(app, probe_port=port, probes=other):
                pass


async def test_a_failed_start_leaves_no_port_open() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    server = HttpServer(broken, probe_port=0, probes=other)
    with pytest.raises(StartError, match="the application failed to start"):
        await server.serve()
    assert (server.url, server.probe_url) == ("", "")


async def test_a_failed_start_of_the_application_is_a_start_error() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    with pytest.raises(StartError, match="the application failed to start"):
        async with running(broken):
            pass


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Starts programs."""
    programs: list[Program] = []

    def start(*args: Any, **kwargs: Any) -> Program:
        programs.append(Program(*args, **kwargs))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server(start: Callable[..., Program], number: signal.Signals) -> None:
    program = start()
    with program.get("/limit") as idle:
        assert idle.recv(1000)
        program.stop(number)
    assert program.process.returncode == 0
    assert "stopping" in program.log
    assert "Traceback" not in program.log


def test_a_stop_ends_a_long_poll_properly(start: Callable[..., Program]) -> None:
    program = start()
    with program.get("/poll") as poll, program.get("/limit") as later:
        assert later.recv(1000)  # and so the poll waits
        program.stop(signal.SIGTERM)
        data = b""
        while some := poll.recv(1000):
            data += some
        assert data.endswith(b"ended")
    assert program.process.returncode == 0


def test_the_server_stops_despite_clients_and_tasks(start: Callable[..., Program]) -> None:
    program = start("asyncio.create_task(deaf(), name='deaf')")
    with program.get("/large") as stalled, program.get("/endless"), program.get("/poll"):
        stalled.recv(1000)
        program.stop(signal.SIGTERM)
    assert program.process.returncode == 0
    assert "tasks that ignore being cancelled: deaf" in program.log
    assert "Traceback" not in program.log


@pytest.mark.parametrize(
    "hang",
    [
        {"start": "asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)"},
        {"stop": "block()"},
        {"stop": "asyncio.sleep(60)"},
    ],
    ids=["thread", "loop", "application"],
)
def test_the_server_stops_even_if_something_hangs(
    start: Callable[..., Program], hang: dict[str, str]
) -> None:
    program = start(**hang)
    program.stop(signal.SIGTERM)
    assert program.process.returncode == 0
    assert "Traceback" not in program.log


def test_a_second_signal_ends_the_wait_for_answers(start: Callable[..., Program]) -> None:
    program = start()
    with program.get("/endless"), program.get("/limit") as later:
        assert later.recv(1000)
        program.stop(signal.SIGINT, signal.SIGINT)
    assert program.process.returncode == 0
    assert "stopping" in program.log
    assert "Traceback" not in program.log


def test_a_task_that_exits_does_not_stop_the_server(start: Callable[..., Program]) -> None:
    program = start()
    for path in ("/exit", "/limit"):
        with program.get(path) as sock:
            assert sock.recv(1000)
    program.stop(signal.SIGTERM)
    assert program.process.returncode == 0
    assert "a task ended with SystemExit; the server continues" in program.log


def test_the_server_raises_its_limit_of_open_files(start: Callable[..., Program]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with start().get("/limit") as sock, sock.makefile("rb") as answer:
        while answer.readline().strip():
            pass
        wanted = b"%d of %d" % (hard, hard)
        assert answer.read(len(wanted)) == wanted
