"""The whole contract between the core and a collector.

A collector is a record (`Collector`) named by an entry point of the group `telemetron.collectors`.
The supervisor calls its `run` with its configuration and an `Output` that writes for one source.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from telemetron.clock import Clock
from telemetron.search import Search

ENTRY_POINTS = "telemetron.collectors"
PROBES = "telemetron.probes"
"""Entry-point group that names the collectors with `probes` again: they are always imported."""
VARIABLES = "telemetron.variables"
"""Entry-point group of environment variables: `VARIABLE = "COLLECTOR:KEY"`; nothing is imported."""

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Put(NamedTuple):
    """One part for `Output.replace`; the fields are those of `Output.put`."""

    section: str
    group: str
    id: str
    part: Struct


class Output(Protocol):
    """The collector's only way to write. No call waits for a reader; only `replace` awaits."""

    clock: Clock
    source: str
    """The name of the source that it writes for."""

    def put(
        self,
        section: str,
        group: str,
        id: str,
        part: Struct,
        *,
        scope: str = "",
        is_checked: bool = False,
    ) -> None:
        """Add or replace the part `id`, which belongs to `group`; an equal part costs nothing.

        `part` must be of the section's part type. If it does not fit the schema, it is hidden and
        the source gets the problem `Refused`, which says why. With `is_checked` nothing is checked:
        you are certain that it fits, that `telemetron.normal.normalized` changes nothing in it, and
        that it is new: an equal part is merged again.
        """

    def remove(self, section: str, id: str) -> None:
        """Remove a part; an unknown id is no error."""

    async def replace(self, puts: Iterable[Put], *, scope: str = "") -> None:
        """Replace all parts of a scope at once, as after a list request, and confirm the scope.

        Parts that are put or removed while this call awaits are newer and stay as they are.
        """

    def expect(self, scopes: Iterable[str]) -> None:
        """Declare the scopes; the source is `starting` until each of them was confirmed.

        Call it before the first scope is named if there are several, and again if they change. It
        drops all other scopes and ends their problems; removing their parts is up to you.
        """

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        """Confirm that everything shown of a scope is true now, and end the scope's problem.

        With `reason` (from `telemetron.reason`) the scope has a problem that is known for
        certain, such as a missing permission. The reasons `Unreachable`, `Timeout` and
        `Unauthorized` make the source `degraded` even so.
        """

    def trouble(self, scope: str, reason: str, message: str) -> None:
        """Report that a scope cannot be observed; its parts stay as they are.

        `reason` is one of `telemetron.reason`; `message` is one line of your own, never an
        upstream's body. The source is `degraded` until the scope is confirmed again, and `stale`
        if that takes longer than `max_age_seconds`.
        """

    def count(self, event: str, number: int = 1) -> None:
        """Add to the metric `telemetron_source_events_total{source, event}`."""

    def mount(self, prefix: str, app: ASGIApp) -> None:
        """Serve HTTP requests below one of the collector's `paths` until `run` ends.

        The application may have shortcuts for its commonest requests: `telemetron.http.Shortcut`.
        """

    def offer(self, search: Search) -> None:
        """Answer with `search` where a task is, until `run` ends; see `telemetron.search`.

        It is for readers who ask about a task beyond the lists of the document. It may read from
        the observed system, returns within `TaskQuery.seconds`, and is called at most twice at a
        time.
        """


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every collector's configuration; describe each field with `msgspec.Meta`."""


class Collector(Struct, frozen=True, kw_only=True):
    """The record of a collector, which its entry point names."""

    name: str
    description: str
    config: type[Config]
    sections: tuple[str, ...]
    """The sections it writes."""
    agent_rank: int = 0
    """How far its agents are believed if several sources know one agent: the highest rank wins.

    Heartbeats have 300, Kubernetes has 200, agents of the configuration have 100.
    """
    max_age_seconds: Callable[[Any], float]
    """The longest time between two confirmations of a scope, from the configuration.

    While the source is `ok`, nothing that it shows is older.
    """
    address: Callable[[Any], str | None] = lambda config: None
    """The observed address, from the configuration: `host:port` without credentials, path or query.

    Called once, in a thread. None: there is no address, or it is not known.
    """
    run: Callable[[Any, Output], Awaitable[None]]
    """Observes until it is cancelled. It handles failures of the observed system itself; an
    exception that leaves it is a bug."""
    paths: tuple[str, ...] = ()
    """The URL prefixes it serves, each with a slash at both ends."""
    probes: dict[str, str] = {}
    """Probes below its `paths`, such as `/agents/{name}/livez`, and one line about each.

    A probe is a GET with the read token. The probe port answers it too, without a token. While no
    source of the collector runs, Telemetron answers 200: a probe fails only on evidence.
    """
    openapi: Callable[[], dict[str, Any]] | None = None
    """Returns its part of the OpenAPI document: `{"paths": …, "components": …}`."""
