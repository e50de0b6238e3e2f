"""Connections to brokers: opened on demand, with errors that name the cause.

They use only aiokafka's connection. Its client hides causes in its log, has one lock for all
brokers, and may create topics.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection

from telemetron.backoff import Backoff
from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.config import KafkaConfig, KafkaTls, Sasl, parse_address
from telemetron_collectors.kafka.limits import LIMITS, KafkaLimits
from telemetron_collectors.kafka.protocol.messages import Address
from telemetron_collectors.kafka.protocol.wire import Request, ResponseBody, UnsupportedError

MAX_IN_FLIGHT = 16
"""Requests on one connection. A broker answers them one after the other; with more, the last ones
would time out while they wait for the others."""
CLOSE_SECONDS = 0.2
MAX_THROTTLE_SECONDS = 5.0
NO_SASL = "expects no SASL on this port"

# aiokafka logs hundreds of lines a minute during an outage; the document reports it once.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


class ConnectionSettings(NamedTuple):
    """The client id, security protocol and credentials of every connection."""

    client_id: str
    protocol: str
    tls: KafkaTls | None
    sasl: dict[str, Any]


async def connection_settings(config: KafkaConfig) -> ConnectionSettings:
    """Raise TroubleError if a file that the configuration names cannot be used."""
    protocol = "SSL" if config.tls else "PLAINTEXT"
    if config.sasl:
        protocol = f"SASL_{protocol}"
    await _context(config.tls)
    return ConnectionSettings(config.client_id, protocol, config.tls, _credentials(config.sasl))


async def _context(tls: KafkaTls | None) -> ssl.SSLContext | None:
    """Read the files now: certificates may be renewed while Telemetron runs."""
    return await asyncio.to_thread(_tls_context, tls) if tls else None


def _tls_context(tls: KafkaTls) -> ssl.SSLContext:
    password = tls.keyfile_password.value if tls.keyfile_password else ""
    try:
        context = ssl.create_default_context(cafile=tls.cafile)
        context.check_hostname = tls.check_hostname
        if tls.certfile:
            context.load_cert_chain(tls.certfile, tls.keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or type(error).__name__
        raise TroubleError("InvalidConfig", f"tls: cannot use a file: {reason}") from None
    return context


def _credentials(sasl: Sasl | None) -> dict[str, Any]:
    if sasl is None:
        return {}
    if sasl.token_file is not None and sasl.mechanism == "OAUTHBEARER":
        provider = TokenFile(sasl.token_file)
        return {"sasl_mechanism": sasl.mechanism, "sasl_oauth_token_provider": provider}
    return {
        "sasl_mechanism": sasl.mechanism,
        "sasl_plain_username": sasl.username,
        "sasl_plain_password": sasl.password.value if sasl.password else "",
    }


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """An OAUTHBEARER token in a file, which another program keeps fresh."""

    def __init__(self, file: str) -> None:
        self._file = file

    async def token(self) -> str:
        try:
            text = await asyncio.to_thread(Path(self._file).read_text)
        except (OSError, ValueError):
            raise TroubleError("InvalidConfig", "cannot read sasl.token_file") from None
        return text.strip()


class BrokerConnection:
    """One connection to one address; it reconnects on demand, with backoff."""

    def __init__(
        self,
        address: Address,
        settings: ConnectionSettings,
        clock: Clock,
        limits: KafkaLimits = LIMITS,
    ) -> None:
        self.address = address
        self._settings = settings
        self._clock = clock
        self._request_seconds = limits.request
        self._lock = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._is_closed = False
        self._conn: AIOKafkaConnection | None = None
        self._backoff = Backoff(cap=limits.max_backoff)
        self._retry_at = 0.0
        self._throttled_until = 0.0
        self._trouble = ("Unreachable", f"{address} was not tried yet")
        """Reason and message: each call that fails raises an error of its own."""

    async def call(self, request: Request) -> ResponseBody:
        """Send a request and return the response.

        Raise TroubleError if there is none, and UnsupportedError if the broker is too old.
        """
        if (wait := self._throttled_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        async with self._room:
            return await self._call(request)

    async def _call(self, request: Request) -> ResponseBody:
        conn = await self._ready()
        try:
            async with asyncio.timeout(self._request_seconds):
                response: ResponseBody = await conn.send(request)
        except UnsupportedError:
            raise
        except Exception as error:
            if conn is self._conn:  # the first failed call has the cause; the others fail with it
                self._trouble = self._cause(error, "lost the connection")
                self.drop()
            raise TroubleError(*self._trouble) from None
        if response.throttle > 0:
            seconds = min(response.throttle / 1000, MAX_THROTTLE_SECONDS)
            self._throttled_until = self._clock.monotonic() + seconds
        return response

    def drop(self) -> None:
        """Close the connection without waiting."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    async def close(self) -> None:
        self._is_closed = True
        if self._conn is not None:
            closed = self._conn.close()
            self._conn = None
            await asyncio.wait([closed], timeout=CLOSE_SECONDS)

    async def _ready(self) -> AIOKafkaConnection:
        async with self._lock:
            if self._conn is not None and self._conn.connected():
                return self._conn
            if self._clock.monotonic() < self._retry_at:
                raise TroubleError(*self._trouble)
            self.drop()
            try:
                conn = self._conn = await self._connect()
            except Exception as error:
                self._trouble = self._cause(error, self._at_once)
                self._retry_at = self._clock.monotonic() + self._backoff.next()
                raise TroubleError(*self._trouble) from None
            self._backoff.reset()
            if self._is_closed:  # while it connected
                self.drop()
            return conn

    async def _connect(self) -> AIOKafkaConnection:
        conn = AIOKafkaConnection(
            self.address.host,
            self.address.port,
            client_id=self._settings.client_id,
            request_timeout_ms=int(self._request_seconds * 1000),
            security_protocol=self._settings.protocol,
            ssl_context=await _context(self._settings.tls),
            **self._settings.sasl,
        )
        try:
            async with asyncio.timeout(self._request_seconds):
                await conn.connect()
        except BaseException:
            conn.close()
            raise
        return conn

    @property
    def _at_once(self) -> str:
        hint = "" if "SSL" in self._settings.protocol else ": does it expect TLS?"
        return f"closed the connection at once, as if it were not a Kafka broker{hint}"

    def _cause(self, error: BaseException, closed: str) -> tuple[str, str]:
        is_sasl = "SASL" in self._settings.protocol
        trouble = cause(error, self.address, closed, self._request_seconds, with_sasl=is_sasl)
        return trouble.reason, trouble.message


def cause(
    error: BaseException,
    address: Address,
    closed: str,
    seconds: float,
    *,
    with_sasl: bool = False,
) -> TroubleError:
    """Return why a connection or a request failed, in words that say how to repair it.

    `closed` describes a lost connection for which nothing else is known; `seconds` is the timeout.
    """
    if isinstance(error, TroubleError):
        return error
    if isinstance(error, TimeoutError):
        return TroubleError("Timeout", f"{address} did not answer within {seconds:g} s")
    for kind, reason, message in _CAUSES:
        if isinstance(error, kind):
            return TroubleError(reason, f"{address} {message(error)}")
    if isinstance(error, errors.KafkaError | EOFError):
        return TroubleError("Unreachable", f"{address} {closed}")
    if with_sasl and isinstance(error, KeyError | ValueError):
        # aiokafka's SCRAM fails so if the user is unknown, or the broker cannot prove itself.
        return TroubleError("Unauthorized", f"{address} did not accept the credentials")
    return TroubleError("BadAnswer", f"{address} answered, but not with Kafka's protocol")


def _certificate(error: Any) -> str:
    return f"has an untrusted certificate: {error.verify_message}"


_CAUSES: list[tuple[type[Exception], str, Callable[[Any], str]]] = [
    (ssl.SSLCertVerificationError, "Unreachable", _certificate),
    (ssl.SSLError, "Unreachable", lambda error: "does not accept a TLS connection"),
    (ConnectionRefusedError, "Unreachable", lambda error: "refuses the connection: closed port"),
    (
        OSError,
        "Unreachable",
        lambda error: f"cannot be reached: {error.strerror or 'unknown error'}",
    ),
    (
        errors.UnsupportedSaslMechanismError,
        "Unauthorized",
        lambda error: "does not offer this SASL mechanism",
    ),
    (errors.IllegalSaslStateError, "Unauthorized", lambda error: NO_SASL),
    (errors.IncompatibleBrokerVersion, "Unauthorized", lambda error: NO_SASL),
    (
        errors.SaslAuthenticationFailed,
        "Unauthorized",
        lambda error: "did not accept the credentials",
    ),
]


class Broker:
    """One broker, with a second connection for records: they would delay other responses."""

    def __init__(
        self, address: Address, settings: ConnectionSettings, clock: Clock, limits: KafkaLimits
    ) -> None:
        self.address = address
        self.control = BrokerConnection(address, settings, clock, limits)
        self.data = BrokerConnection(address, settings, clock, limits)
        self.groups: set[str] | None = None
        """The groups that it lists; None: it has not listed them yet."""

    async def close(self) -> None:
        await self.control.close()
        await self.data.close()


class Brokers:
    """The brokers that the metadata names, and the configured ones to begin with."""

    def __init__(
        self,
        servers: list[str],
        settings: ConnectionSettings,
        clock: Clock,
        limits: KafkaLimits,
    ) -> None:
        self.known: dict[int, Broker] = {}
        """By id, as the metadata names them."""
        self.configured = {parse_address(server) for server in servers}
        self._settings = settings
        self._clock = clock
        self._limits = limits
        self._bootstrap = [
            BrokerConnection(parse_address(server), settings, clock, limits) for server in servers
        ]
        self._last: BrokerConnection | None = None
        """The connection that answered last."""

    def get(self, node: int | None) -> Broker | None:
        return None if node is None else self.known.get(node)

    def connect(self, node: int) -> BrokerConnection | None:
        """Return another connection to a broker, which the caller closes; None: it is unknown."""
        broker = self.known.get(node)
        if broker is None:
            return None
        return BrokerConnection(broker.address, self._settings, self._clock, self._limits)

    async def any(self, request: Request) -> ResponseBody:
        """Return the response of any broker; if none answers, raise the first TroubleError."""
        connections = [broker.control for broker in self.known.values()] + self._bootstrap
        connections.sort(key=lambda connection: connection is not self._last)
        trouble: TroubleError | None = None
        for connection in connections:
            try:
                response = await connection.call(request)
            except TroubleError as error:
                trouble = trouble or error
            else:
                self._last = connection
                return response
        raise trouble or TroubleError("Unreachable", "no broker is configured")

    def update(self, addresses: dict[int, Address]) -> list[Broker]:
        """Apply the metadata; return the brokers that are gone, for the caller to close."""
        gone = []
        for node, broker in list(self.known.items()):
            if addresses.get(node) != broker.address:
                gone.append(self.known.pop(node))
        for node, address in addresses.items():
            if node not in self.known:
                self.known[node] = Broker(address, self._settings, self._clock, self._limits)
        return gone

    async def close(self) -> None:
        closing: list[Awaitable[None]] = [connection.close() for connection in self._bootstrap]
        closing += [broker.close() for broker in self.known.values()]
        with suppress(OSError):
            await asyncio.gather(*closing)
