"""The HTTP server: uvicorn on uvloop, with bounded readers and a bounded stop."""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from functools import partial
from typing import Any, TypedDict, Unpack

import uvicorn
import uvloop

from telemetron.web.server.connection import SEND_BUFFER, Connection, Readers

KEEP_ALIVE_SECONDS = 75
# A stop takes less than 2 s: so long may each step take, and the process as a whole.
_ANSWERS_SECONDS = 0.7
_LIFESPAN_SECONDS = 0.6
_CANCEL_SECONDS = 0.1
_STOP_SECONDS = 1.7
_SIGNALS = {signal.SIGINT, signal.SIGTERM}

logger = logging.getLogger("telemetron")
uvicorn_logger = logging.getLogger("uvicorn.error")


class StartError(Exception):
    """The server cannot start; the message says why, in a line."""


class Options(TypedDict, total=False):
    """What a server can be told; the defaults are those of `Server`."""

    host: str
    port: int
    """0: a free one."""
    probe_port: int | None
    """Where `probes` answers: on every address, without TLS. None: nowhere."""
    probes: Any
    """Another application, which no lifespan is told to."""
    readers: Readers
    """The bounds of slow readers; it counts those that were cut."""
    root_path: str
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_keyfile_password: str | None
    on_stop: Callable[[], None]
    """Called first when the server stops, to end the answers that still wait."""


class Server(uvicorn.Server):
    """uvicorn's server, but for how it listens, treats slow readers, and stops."""

    def __init__(
        self,
        app: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        probe_port: int | None = None,
        probes: Any = None,
        readers: Readers | None = None,
        on_stop: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self.readers = readers or Readers()
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=partial(Connection, self.readers),  # type: ignore[arg-type]
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
        super().__init__(config)
        self.on_stop = on_stop
        self.probe_port = probe_port
        self.probe_config = copy(config)
        self.probe_config.loaded_app = probes
        self.ready = asyncio.Event()
        self.url = ""
        self.probe_url = ""
        self.readers.connections = self.server_state.connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; StartError if that cannot be, or if the application fails to start."""
        sock = listen(self.config.host, self.config.port, self.readers.stall_seconds)
        try:
            probe_sock = self._listen_for_probes()
        except StartError:
            sock.close()
            raise
        try:
            await super().startup([sock])
        except SystemExit:  # uvicorn's way to say it; the log has the traceback
            for each in filter(None, (sock, probe_sock)):
                each.close()
            raise StartError("the application failed to start") from None
        self.url = _url("https" if self.config.is_ssl else "http", sock)
        logger.info("listening on %s", self.url)
        if probe_sock:
            await self._serve_probes(probe_sock)
        self.ready.set()

    def _listen_for_probes(self) -> socket.socket | None:
        if self.probe_port is None:
            return None
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  (a kubelet's way)
        return listen(host, self.probe_port, self.readers.stall_seconds)

    async def _serve_probes(self, sock: socket.socket) -> None:
        """Connections like the others, but to an application of their own."""
        protocol = partial(
            Connection,
            self.readers,
            config=self.probe_config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(protocol, sock=sock))
        self.probe_url = _url("http", sock)
        logger.info("probes on %s", self.probe_url)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        self.readers.tick()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: uvicorn would raise them once more after the stop."""
        yield

    def stop(self) -> None:
        """Stop; asked once more, wait for answers no longer."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what can end by itself, cut the rest, and then stop the application."""
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
            logger.warning("the application did not stop within %s s", _LIFESPAN_SECONDS)

    async def _answered(self) -> None:
        state, time = self.server_state, asyncio.get_running_loop().time
        end = time() + _ANSWERS_SECONDS
        # uvicorn has no event for it
        while (state.connections or state.tasks) and time() < end and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _url(scheme: str, sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _not_cancelled(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def listen(host: str, port: int, stall_seconds: float) -> socket.socket:
    """A listening socket; StartError where there cannot be one. Port 0 is a free one.

    Connections inherit its options: the send buffer, and that the kernel cuts who takes nothing.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only to a socket that says it is TCP does asyncio give TCP_NODELAY; uvloop to each.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "::":  # IPv4 too, whatever the system's default is
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
    server = Server(app, **options)
    serving = asyncio.ensure_future(server.serve())
    ready = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not server.ready.is_set():
        ready.cancel()
        await serving  # raises what went wrong
    try:
        yield server.url
    finally:
        server.stop()
        await serving


def serve(app: Any, **options: Unpack[Options]) -> int:
    """Serve the ASGI application until SIGINT or SIGTERM; the exit code of the process.

    StartError if it cannot. Once told to stop, the process ends within 2 s, whatever hangs.
    """
    _raise_file_limit()
    server = Server(app, **options)
    loop = uvloop.new_event_loop()

    def stop() -> None:
        if not server.should_exit:
            _end_in(_STOP_SECONDS)
        server.stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        _run(loop, loop.create_task(server.serve()))
        # The process is about to end: a further signal would only leave a traceback.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        _cancel_all(loop)
    finally:
        loop.close()
    return 0


def _run(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]") -> None:
    """Run to the end of `main`: a task that some collector started may end itself, not all."""
    while not main.done():
        try:
            loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done():
                raise
            logger.error("a task ended with %s; the server goes on", type(error).__name__)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS has a limit that it does not tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))
    if stubborn := [task.get_name() for task in tasks if not task.done()]:
        logger.warning("tasks that ignore being cancelled: %s", ", ".join(stubborn))
        _flush()
        os._exit(0)


def _end_in(seconds: float) -> None:
    """End the process then, if it has not ended: a thread or an exit handler may hang."""
    for delay, end in ((seconds - 0.1, _flush), (seconds, partial(os._exit, 0))):
        timer = threading.Timer(delay, end)
        timer.daemon = True
        timer.start()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
