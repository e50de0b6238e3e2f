"""Connections to brokers: opened when they are needed, and honest about why they fail.

Built on aiokafka's connection alone. Its client hides causes in its log, has one lock for all
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
from telemetron_collectors.kafka.config import KafkaConfig, Sasl, Tls, parse_address
from telemetron_collectors.kafka.protocol.messages import Address
from telemetron_collectors.kafka.protocol.wire import Answer, Request, UnsupportedError

MAX_IN_FLIGHT = 16
"""On one connection, of which a broker answers one request after the other: the time that each is
given begins when few are before it."""
REQUEST_SECONDS = 3.0
"""For a connection to be made, and for each answer."""
CLOSE_SECONDS = 0.2
MAX_QUIET_SECONDS = 5.0
NO_SASL = "expects no SASL on this port"

# What the library logs of faults, hundreds of lines a minute, is told in the document.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


class Access(NamedTuple):
    """What every connection is made with."""

    client_id: str
    protocol: str
    tls: Tls | None
    sasl: dict[str, Any]


async def access(config: KafkaConfig) -> Access:
    """TroubleError where a file of the configuration cannot be used."""
    protocol = "SSL" if config.tls else "PLAINTEXT"
    if config.sasl:
        protocol = f"SASL_{protocol}"
    await _context(config.tls)
    return Access(config.client_id, protocol, config.tls, _credentials(config.sasl))


async def _context(tls: Tls | None) -> ssl.SSLContext | None:
    """From the files as they are now: certificates are renewed while we run."""
    return await asyncio.to_thread(_tls_context, tls) if tls else None


def _tls_context(tls: Tls) -> ssl.SSLContext:
    password = tls.keyfile_password.value if tls.keyfile_password else ""
    try:
        context = ssl.create_default_context(cafile=tls.cafile)
        context.check_hostname = tls.check_hostname
        if tls.certfile:
            context.load_cert_chain(tls.certfile, tls.keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or type(error).__name__
        raise TroubleError("InvalidConfig", f"tls: a file cannot be used: {reason}") from None
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
    """A token that somebody else keeps fresh in a file."""

    def __init__(self, file: str) -> None:
        self._file = file

    async def token(self) -> str:
        try:
            text = await asyncio.to_thread(Path(self._file).read_text)
        except (OSError, ValueError):
            raise TroubleError("InvalidConfig", "sasl.token_file cannot be read") from None
        return text.strip()


class Link:
    """One connection to one address, made anew when it is gone, not too often."""

    def __init__(self, address: Address, access: Access, clock: Clock) -> None:
        self.address = address
        self._access = access
        self._clock = clock
        self._lock = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._is_closed = False
        self._conn: AIOKafkaConnection | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._quiet_until = 0.0
        """A quota wants us to wait until then."""
        self._trouble = ("Unreachable", f"{address} was not tried yet")
        """Reason and message: each call that fails raises an error of its own."""

    async def call(self, request: Request) -> Answer:
        """The answer; TroubleError: there is none. UnsupportedError: the broker is too old."""
        if (wait := self._quiet_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        async with self._room:
            return await self._call(request)

    async def _call(self, request: Request) -> Answer:
        conn = await self._ready()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer: Answer = await conn.send(request)
        except UnsupportedError:
            raise
        except Exception as error:
            if conn is self._conn:  # the first call that fails says why; the others fail with it
                self._trouble = self._said(error, "lost the connection")
                self.drop()
            raise TroubleError(*self._trouble) from None
        if answer.throttle > 0:
            seconds = min(answer.throttle / 1000, MAX_QUIET_SECONDS)
            self._quiet_until = self._clock.monotonic() + seconds
        return answer

    def drop(self) -> None:
        """Close the connection, without a wait."""
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
                self._trouble = self._said(error, self._at_once)
                self._retry_at = self._clock.monotonic() + self._backoff.next()
                raise TroubleError(*self._trouble) from None
            self._backoff.reset()
            if self._is_closed:  # meanwhile
                self.drop()
            return conn

    async def _connect(self) -> AIOKafkaConnection:
        conn = AIOKafkaConnection(
            self.address.host,
            self.address.port,
            client_id=self._access.client_id,
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            security_protocol=self._access.protocol,
            ssl_context=await _context(self._access.tls),
            **self._access.sasl,
        )
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await conn.connect()
        except BaseException:
            conn.close()
            raise
        return conn

    @property
    def _at_once(self) -> str:
        hint = "" if "SSL" in self._access.protocol else ": does it expect TLS?"
        return f"closes the connection at once, as if it were no Kafka broker{hint}"

    def _said(self, error: BaseException, closed: str) -> tuple[str, str]:
        said = cause(error, self.address, closed, with_sasl="SASL" in self._access.protocol)
        return said.reason, said.message


def cause(
    error: BaseException, address: Address, closed: str, *, with_sasl: bool = False
) -> TroubleError:
    """Why a connection or a request failed, in words that say what to mend.

    `closed` is what the broker did if all that is known is that the connection is gone.
    """
    if isinstance(error, TroubleError):
        return error
    if isinstance(error, TimeoutError):
        return TroubleError("Timeout", f"{address} did not answer within {REQUEST_SECONDS:g} s")
    for kind, reason, message in _CAUSES:
        if isinstance(error, kind):
            return TroubleError(reason, f"{address} {message(error)}")
    if isinstance(error, errors.KafkaError | EOFError):
        return TroubleError("Unreachable", f"{address} {closed}")
    if with_sasl and isinstance(error, KeyError | ValueError):
        # How aiokafka's SCRAM ends where the user is unknown, or the broker cannot prove itself.
        return TroubleError("Unauthorized", f"{address} did not accept the credentials")
    return TroubleError("BadAnswer", f"{address} answered what is not Kafka's protocol")


def _certificate(error: Any) -> str:
    return f"has a certificate that is not trusted: {error.verify_message}"


_CAUSES: list[tuple[type[Exception], str, Callable[[Any], str]]] = [
    (ssl.SSLCertVerificationError, "Unreachable", _certificate),
    (ssl.SSLError, "Unreachable", lambda error: "does not speak TLS as we do"),
    (ConnectionRefusedError, "Unreachable", lambda error: "refuses the connection: closed port"),
    (OSError, "Unreachable", lambda error: f"cannot be reached: {error.strerror or 'no cause'}"),
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
    """One broker: a connection for what is counted, and one for records, which may take long."""

    def __init__(self, address: Address, access: Access, clock: Clock) -> None:
        self.address = address
        self.control = Link(address, access, clock)
        self.data = Link(address, access, clock)

    async def close(self) -> None:
        await self.control.close()
        await self.data.close()


class Brokers:
    """The brokers that the metadata names, and those that the configuration begins with."""

    def __init__(self, servers: list[str], access: Access, clock: Clock) -> None:
        self.known: dict[int, Broker] = {}
        self._access = access
        self._clock = clock
        self.first = {parse_address(server) for server in servers}
        """Where the configuration begins."""
        self._first = [Link(parse_address(server), access, clock) for server in servers]
        self._good: Link | None = None
        """The one that answered last."""

    async def any(self, request: Request) -> Answer:
        """The answer of any broker; the last one's TroubleError where none gives one."""
        links = [broker.control for broker in self.known.values()] + self._first
        links.sort(key=lambda link: link is not self._good)
        trouble: TroubleError | None = None
        for link in links:
            try:
                answer = await link.call(request)
            except TroubleError as error:
                trouble = trouble or error
            else:
                self._good = link
                return answer
        raise trouble or TroubleError("Unreachable", "there is no broker")

    def update(self, addresses: dict[int, Address]) -> list[Broker]:
        """Take what the metadata says; gives those that are no more, to be closed."""
        gone = []
        for node, broker in list(self.known.items()):
            if addresses.get(node) != broker.address:
                gone.append(self.known.pop(node))
        for node, address in addresses.items():
            if node not in self.known:
                self.known[node] = Broker(address, self._access, self._clock)
        return gone

    async def close(self) -> None:
        closing: list[Awaitable[None]] = [link.close() for link in self._first]
        closing += [broker.close() for broker in self.known.values()]
        with suppress(OSError):
            await asyncio.gather(*closing)
