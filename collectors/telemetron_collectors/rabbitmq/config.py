"""The keys of a `rabbitmq` source."""

from fnmatch import fnmatchcase
from typing import Annotated

from msgspec import Meta

from telemetron.collector import Config
from telemetron.secret import Secret

MAX_NAMED = 50
"""Queues that are asked for one by one."""
COUNT_SECONDS = 5.0
LIST_SECONDS = 30.0
NAMED_SECONDS = 1.0

Url = Annotated[str, Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
Name = Annotated[str, Meta(min_length=1, max_length=255)]


class RabbitmqConfig(Config, frozen=True):
    """The keys of a `rabbitmq` source."""

    url: Annotated[
        Url,
        Meta(
            description="Base URL of the management plugin, http or https, without credentials and"
            " query."
        ),
    ]
    username: Annotated[str, Meta(description="A user with the tag `monitoring`.", min_length=1)]
    password: Annotated[Secret, Meta(description="The user's password.")]
    metrics_urls: Annotated[
        Annotated[tuple[Url, ...], Meta(max_length=100)],
        Meta(
            description="Base URL of the Prometheus plugin of every node: the cheapest way to count"
            " many queues. None: the management plugin is asked, less often."
        ),
    ] = ()
    vhosts: Annotated[
        Annotated[list[Name], Meta(min_length=1, max_length=100)] | None,
        Meta(description="Virtual hosts to show; null: all that the user may see."),
    ] = None
    queues: Annotated[
        Annotated[list[Name], Meta(min_length=1, max_length=1000)] | None,
        Meta(
            description="Queues to show, or patterns of their names with `*`, `?`, `[…]`; null:"
            " every queue."
        ),
    ] = None
    interval_seconds: Annotated[
        Annotated[float, Meta(ge=0.1, le=300)] | None,
        Meta(
            description="Seconds between two polls; null: 1 if every queue is named (50 at most),"
            " 5 with `metrics_urls`, else 30. A list is asked for more seldom if the broker takes"
            " long: its answer takes at most a twentieth of the time."
        ),
    ] = None
    cafile: Annotated[
        str | None, Meta(description="File of the trusted certificates, PEM; null: the system's.")
    ] = None

    @property
    def named(self) -> list[str]:
        """The queues to ask for one by one; none if there are patterns, or too many names."""
        names = self.queues or []
        is_few = len(names) * len(self.vhosts or [""]) <= MAX_NAMED
        return names if is_few and not any(map(is_pattern, names)) else []

    @property
    def interval(self) -> float:
        """Seconds between two polls of the counts."""
        if self.interval_seconds is not None:
            return self.interval_seconds
        return NAMED_SECONDS if self.named else COUNT_SECONDS if self.metrics_urls else LIST_SECONDS

    def shows(self, queue: str) -> bool:
        return self.queues is None or any(
            queue == name or (is_pattern(name) and fnmatchcase(queue, name)) for name in self.queues
        )

    def shown_name(self, vhost: str, queue: str) -> str:
        """Return the queue's name in the document: with its vhost, unless that goes without saying.

        It does for the default vhost `/`, and for the only vhost of a source.
        """
        is_plain = vhost == "/" if self.vhosts is None or len(self.vhosts) > 1 else True
        return queue if is_plain else f"{vhost}:{queue}"


def is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")
