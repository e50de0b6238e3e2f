"""The keys of a `kafka` source."""

import re
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Annotated, Literal

from msgspec import Meta

from telemetron.collector import Config
from telemetron.secret import Secret
from telemetron_collectors.kafka.protocol.messages import Address

CONTENT_INTERVAL = 0.1
COUNT_INTERVAL = 1.0
MAX_QUEUES = 2_000
MAX_QUEUES_UNASKED = 500
"""The limit if the configuration names no queue."""
MAX_SHOWN = 2_000
"""Tasks in the document of one source."""

DEFAULT_PORT = 9092
_NO_HOST = re.compile(r"[/@\[\]]")

Server = Annotated[str, Meta(min_length=1, pattern=r"^\S+$")]
Pattern = Annotated[str, Meta(min_length=1, max_length=256)]
Place = Annotated[str, Meta(min_length=1, max_length=256)]


class KafkaTls(Config, frozen=True):
    """TLS to the brokers; `{}` trusts the system's certificates."""

    cafile: Annotated[
        str | None, Meta(description="File of the trusted certificates, PEM; null: the system's.")
    ] = None
    certfile: Annotated[
        str | None, Meta(description="File of the client certificate chain, PEM; null: none.")
    ] = None
    keyfile: Annotated[
        str | None, Meta(description="File of its private key, PEM; null: in `certfile`.")
    ] = None
    keyfile_password: Annotated[Secret | None, Meta(description="Password of the private key.")] = (
        None
    )
    check_hostname: Annotated[
        bool, Meta(description="Whether the broker's certificate must contain its name.")
    ] = True


class Sasl(Config, frozen=True):
    """Credentials for the brokers."""

    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        Meta(description="How to authenticate."),
    ]
    username: Annotated[str | None, Meta(description="User; not for OAUTHBEARER.")] = None
    password: Annotated[Secret | None, Meta(description="Password; not for OAUTHBEARER.")] = None
    token_file: Annotated[
        str | None,
        Meta(description="File of the OAUTHBEARER token, read again for every connection."),
    ] = None

    def __post_init__(self) -> None:
        if self.mechanism == "OAUTHBEARER":
            if self.token_file is None:
                raise ValueError("OAUTHBEARER requires token_file")
        elif self.username is None or self.password is None:
            raise ValueError(f"{self.mechanism} requires username and password")


class Fields(Config, frozen=True):
    """The place of each field in a record: a JSON Pointer into its value (`/id`), or a header."""

    id: Annotated[
        Place,
        Meta(description="The task's id; the header `telemetron-task-id` has precedence."),
    ] = "/id"
    priority: Annotated[Place, Meta(description="Its priority.")] = "/priority"
    blocked_task: Annotated[Place, Meta(description="The task that it blocks.")] = "/blocked_task"
    invoked_by: Annotated[Place, Meta(description="Who submitted it.")] = "/invoked_by"
    prompt: Annotated[Place, Meta(description="Its prompt; see `content_chars`.")] = "/prompt"
    args: Annotated[Place, Meta(description="Its arguments; see `content_chars`.")] = "/args"
    submitted_at: Annotated[
        Place,
        Meta(
            description="When it was submitted: ISO 8601, RFC 1123, or a number (also as text) of"
            " seconds, milliseconds, microseconds or nanoseconds since 1970. If a record has no"
            " such value, the record's timestamp counts."
        ),
    ] = "/submitted_at"


class QueueConfig(Config, frozen=True):
    """Topics to show, and the consumer groups to show them for."""

    topic: Annotated[Pattern, Meta(description="A topic, or a pattern with `*`, `?`, `[…]`.")]
    groups: Annotated[
        Annotated[list[Pattern], Meta(min_length=1, max_length=1000)] | None,
        Meta(
            description="Consumer groups, or patterns of their names; null: every group that has"
            " committed an offset on the topic, or has members that read it."
        ),
    ] = None
    on_no_commit: Annotated[
        Literal["earliest", "latest", "unknown"],
        Meta(
            description="Which records are pending if the group has no valid committed offset: all,"
            " none, or unknown (null). Set it like the group's `auto.offset.reset`."
        ),
    ] = "unknown"
    max_tasks: Annotated[
        int, Meta(description="Tasks shown of each queue; 0: only counts.", ge=0, le=1000)
    ] = 20
    content_chars: Annotated[
        int,
        Meta(
            description="Characters shown of a task's prompt and of its args; 0: neither is shown.",
            ge=0,
            le=4000,
        ),
    ] = 0
    fields: Annotated[
        Fields, Meta(description="The place of each field of a task in a record.")
    ] = Fields()

    @property
    def is_pattern(self) -> bool:
        """Whether `topic` is a pattern."""
        return is_pattern(self.topic)

    @property
    def named_groups(self) -> list[str]:
        """The groups that are shown even if they have never committed."""
        return [group for group in self.groups or () if not is_pattern(group)]

    @property
    def seeks_groups(self) -> bool:
        """Whether groups that are not named are shown if they read the topic."""
        return self.groups is None or any(map(is_pattern, self.groups))

    def has_topic(self, topic: str) -> bool:
        return topic == self.topic or (self.is_pattern and matches(self.topic, topic))

    def has_group(self, group: str) -> bool:
        return self.groups is None or any(
            group == pattern or (is_pattern(pattern) and matches(pattern, group))
            for pattern in self.groups
        )


EVERYTHING = QueueConfig(topic="*", max_tasks=0)


class KafkaConfig(Config, frozen=True):
    """The keys of a `kafka` source."""

    bootstrap_servers: Annotated[
        Annotated[list[Server], Meta(min_length=1, max_length=100)],
        Meta(description="Brokers to connect to first, as `host:port`."),
    ]
    queues: Annotated[
        Annotated[list[QueueConfig], Meta(min_length=1, max_length=1000)] | None,
        Meta(
            description="Topics and groups to show; the first entry that matches them counts. null:"
            " the counts of every group on every topic, 500 queues at most, and no content."
        ),
    ] = None
    interval_seconds: Annotated[
        Annotated[float, Meta(ge=0.05, le=300)] | None,
        Meta(description="Seconds between two rounds; null: 0.1 if tasks are shown, else 1."),
    ] = None
    client_id: Annotated[
        str,
        Meta(
            description="Client id for the brokers, which may have a quota for it.",
            pattern=r"^[A-Za-z0-9._-]{1,100}$",
        ),
    ] = "telemetron"
    tls: Annotated[KafkaTls | None, Meta(description="TLS; null: plain text.")] = None
    sasl: Annotated[Sasl | None, Meta(description="Credentials; null: none.")] = None

    def __post_init__(self) -> None:
        for server in self.bootstrap_servers:
            parse_address(server)

    @property
    def entries(self) -> list[QueueConfig]:
        return [EVERYTHING] if self.queues is None else self.queues

    @property
    def interval(self) -> float:
        """Seconds between two rounds."""
        if self.interval_seconds is not None:
            return self.interval_seconds
        shown = any(entry.max_tasks for entry in self.entries)
        return CONTENT_INTERVAL if shown else COUNT_INTERVAL

    @property
    def max_queues(self) -> int:
        return MAX_QUEUES_UNASKED if self.queues is None else MAX_QUEUES


def parse_address(server: str) -> Address:
    """Parse `host:port`, `host` or `[IPv6]:port`.

    Raise ValueError with the text, but without a password in it.
    """
    host, colon, port = server.rpartition(":")
    if server.endswith("]") or not colon or _is_ipv6(server):
        host, port = server, str(DEFAULT_PORT)
    bare = host.removeprefix("[").removesuffix("]")
    is_host = bare and not _NO_HOST.search(bare) and (":" not in bare or _is_ipv6(bare))
    if not (is_host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        _, at, shown = server.rpartition("@")
        shown = f"…@{shown}" if at else shown
        raise ValueError(f'bootstrap_servers: "{shown}" is not host:port; remove scheme and user')
    return Address(bare, int(port))


def _is_ipv6(host: str) -> bool:
    try:
        return bool(IPv6Address(host))
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def matches(pattern: str, name: str) -> bool:
    return _compiled(pattern).match(name) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))
