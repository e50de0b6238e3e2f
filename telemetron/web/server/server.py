"""The HTTP server: uvicorn on uvloop, with bounds on slow readers and on how long a stop takes."""

import asyncio
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from copy import copy
from functools import partial
from typing import Any, TypedDict, Unpack

import uvicorn
import uvloop
from loguru import logger

from telemetron.web.server.connection import SEND_BUFFER, ClientConnection, Readers
from telemetron.web.server.shortcuts import Shortcuts

KEEP_ALIVE_SECONDS = 75
# A stop takes less than 2 s. These are the limits of its steps, and of all of them together.
_ANSWERS_SECONDS = 0.7
_LIFESPAN_SECONDS = 0.6
_CANCEL_SECONDS = 0.1
_STOP_SECONDS = 1.7
_SIGNALS = {signal.SIGINT, signal.SIGTERM}

uvicorn_logger = logging.getLogger("uvicorn.error")


class StartError(Exception):
    """The server cannot start. The message is one line that says why."""


class Options(TypedDict, total=False):
    """Options of a server; all have defaults: any free port of loopback, no probes, no TLS."""

    host: str
    port: int
    """0 means any free port."""
    probe_port: int | None
    """The port of `probes`, on every address, without TLS. None: no such port."""
    probes: Any
    """A second ASGI application, which gets no lifespan events."""
    readers: Readers
    """The bounds of slow readers, and the counts of connections that were cut."""
    shortcuts: bool
    """Whether the application's shortcuts are used (`telemetron.http.Shortcut`); the default."""
    root_path: str
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_keyfile_password: str | None
    facts: Mapping[str, object]
    """Further fields of the log record that the server is listening."""
    on_stop: Callable[[], None]
    """The server calls this first when it stops, to end the answers that still wait."""


class HttpServer(uvicorn.Server):
    """Extend uvicorn's server: its own listening sockets, bounds on readers, a bounded stop."""

    def __init__(
        self,
        app: Any,
        *,
        probe_port: int | None = None,
        probes: Any = None,
        readers: Readers | None = None,
        shortcuts: bool = True,
        facts: Mapping[str, object] | None = None,
        on_stop: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self.readers = readers or Readers()
        config = _config(app, self.readers, Shortcuts(app if shortcuts else None), **options)
        super().__init__(config)
        self.facts = facts or {}
        self.on_stop = on_stop
        self.probe_port = probe_port
        self.probe_config = copy(config)
        self.probe_config.loaded_app = probes
        self.ready = asyncio.Event()
        self.url = ""
        self.probe_url = ""
        self.readers.connections = self.server_state.connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen and start the application.

        Raises StartError if a port cannot be used, or if the application fails to start.
        """
        stall_seconds = self.readers.stall_seconds
        with ExitStack() as opened:
            sock = opened.enter_context(listen(self.config.host, self.config.port, stall_seconds))
            probe_sock = None
            if self.probe_port is not None:
                host = probe_host(socket.has_dualstack_ipv6())
                probe_sock = opened.enter_context(listen(host, self.probe_port, stall_seconds))
            try:
                await super().startup([sock])
            except SystemExit:  # uvicorn has logged the traceback
                raise StartError("the application failed to start") from None
            opened.pop_all()
        self.url = _url("https" if self.config.is_ssl else "http", sock)
        logger.bind(address=self.url, **self.facts).info("listening on {}", self.url)
        if probe_sock:
            await self._serve_probes(probe_sock)
        self.ready.set()

    async def _serve_probes(self, sock: socket.socket) -> None:
        """Accept connections to the probes' application, with the same bounds."""
        protocol = partial(
            ClientConnection,
            self.readers,
            Shortcuts(None),
            config=self.probe_config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(protocol, sock=sock))
        self.probe_url = _url("http", sock)
        logger.info("probes on {}", self.probe_url)

    async def on_tick(self, counter: int) -> bool:
        """Check the readers; uvicorn calls this ten times a second."""
        self.readers.tick()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: uvicorn would raise them again after the stop."""
        yield

    def stop(self) -> None:
        """Begin to stop. A second call ends the wait for answers."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let open answers end, cut the remaining connections, then stop the application."""
        for server in self.servers:
            server.close()
        self.on_stop()
        state = self.server_state
        for connection in tuple(state.connections):
            connection.shutdown()
        await self._answered()
        for connection in tuple(state.connections):
            connection.cut()  # type: ignore[union-attr]
        uvicorn_logger.addFilter(_not_cancelled)
        for task in state.tasks:
            task.cancel()
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), _LIFESPAN_SECONDS)
        except TimeoutError:
            logger.warning("the application did not stop within {} s", _LIFESPAN_SECONDS)

    async def _answered(self) -> None:
        """Wait until all answers are sent, at most for `_ANSWERS_SECONDS`."""
        state, time = self.server_state, asyncio.get_running_loop().time
        end = time() + _ANSWERS_SECONDS
        # uvicorn has no event for this.
        while (state.connections or state.tasks) and time() < end and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _config(
    app: Any,
    readers: Readers,
    shortcuts: Shortcuts,
    host: str = "127.0.0.1",
    port: int = 0,
    **options: Any,
) -> uvicorn.Config:
    """Return uvicorn's configuration. Raises StartError if it cannot read the certificate."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(ClientConnection, readers, shortcuts),  # type: ignore[arg-type]
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        **options,
    )
    try:
        config.load()
    except OSError as error:  # an ssl.SSLError is one
        raise StartError(f"cannot use the TLS certificate and key: {error}") from error
    return config


def _url(scheme: str, sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _not_cancelled(record: logging.LogRecord) -> bool:
    """Filter uvicorn's tracebacks of the answers that a stop cancels."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def probe_host(dualstack: bool) -> str:
    """Return the wildcard address: of IPv4 and IPv6 if the system has both."""
    return "::" if dualstack else "0.0.0.0"  # noqa: S104  (a kubelet probes the pod's address)


def listen(host: str, port: int, stall_seconds: float) -> socket.socket:
    """Return a listening socket; port 0 means any free port. Raises StartError.

    Connections inherit its options: the size of the send buffer, and the time after which the
    kernel closes a connection whose client reads nothing.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on a socket that was created with IPPROTO_TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "::":  # accept IPv4 as well, regardless of the system's default
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    with suppress(AttributeError):  # Linux only
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_seconds * 1000))
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return sock


@asynccontextmanager
async def running(app: Any, **options: Unpack[Options]) -> AsyncIterator[str]:
    """Serve the ASGI application within the running loop; yields the base URL."""
    server = HttpServer(app, **options)
    serving = asyncio.ensure_future(server.serve())
    ready = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not server.ready.is_set():
        ready.cancel()
        await serving  # raises the reason
    try:
        yield server.url
    finally:
        server.stop()
        await serving


def serve(app: Any, **options: Unpack[Options]) -> int:
    """Serve the ASGI application until SIGINT or SIGTERM; return the process's exit code.

    Raises StartError. After the signal the process ends within 2 s, even if something hangs.
    """
    _raise_file_limit()
    server = HttpServer(app, **options)
    loop = uvloop.new_event_loop()

    def stop(number: signal.Signals) -> None:
        if not server.should_exit:
            _end_in(_STOP_SECONDS)
            logger.bind(signal=number.name).info("stopping")
        server.stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        _run(loop, loop.create_task(server.serve()))
        # The process is about to end: another signal would only print a traceback.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        _cancel_all(loop)
    finally:
        loop.close()
    return 0


def _run(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]") -> None:
    """Run until `main` ends; SystemExit in any other task, such as a collector's, stops nothing."""
    while not main.done():
        try:
            loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done():
                raise
            logger.error("a task ended with {}; the server continues", type(error).__name__)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS allows fewer files than its hard limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))
    if stubborn := [task.get_name() for task in tasks if not task.done()]:
        logger.warning("tasks that ignore being cancelled: {}", ", ".join(stubborn))
        os._exit(0)


def _end_in(seconds: float) -> None:
    """End the process after this time, because a thread or an exit handler may hang."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
