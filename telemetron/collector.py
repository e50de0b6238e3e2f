"""The contract between the core and a collector; all of it.

A collector is a record (`Collector`) under the entry-point group `telemetron.collectors`. Its `run`
is given its configuration and an `Output`, bound to its own source, and runs until cancelled.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from telemetron.clock import Clock

ENTRY_POINTS = "telemetron.collectors"
PROBES = "telemetron.probes"
"""The entry-point group that names those collectors again that have `probes`."""

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Put(NamedTuple):
    """One part for `Output.replace`; the fields are those of `Output.put`."""

    section: str
    group: str
    id: str
    part: Struct


class Output(Protocol):
    """What a collector writes with. No call here waits for a reader; `replace` alone awaits."""

    clock: Clock
    source: str
    """The name of the source that it writes for."""

    def put(self, section: str, group: str, id: str, part: Struct, *, scope: str = "") -> None:
        """Say what is known of one thing, `id`, which belongs to `group`; the same again is free.

        `part` must be of the section's part type and is not shown where it does not fit the schema
        (the source's problem `Refused` says why).
        """

    def remove(self, section: str, id: str) -> None:
        """Forget one thing; unknown ids are fine."""

    async def replace(self, puts: Iterable[Put], *, scope: str = "") -> None:
        """Replace all parts of a scope at once, as after a list, and confirm the scope.

        What is put or removed while it is awaited is newer, and stays as it is.
        """

    def expect(self, scopes: Iterable[str]) -> None:
        """Say which scopes there are: each is to be confirmed, and until all are the source starts.

        For a source of several, before it names one. A scope that is not among them is no longer
        one, and its problem is over; its parts are yours to remove.
        """

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        """Say that all that is shown of a scope is true now.

        With `reason` (of `telemetron.reason`) a problem stands beside it: one that is known for
        certain, as a permission that is missing. Without, the scope's problem is over. A source
        that says `Unreachable`, `Timeout` or `Unauthorized` is `degraded` all the same.
        """

    def trouble(self, scope: str, reason: str, message: str) -> None:
        """Say that a scope cannot be observed, and why; what is known of it stays.

        `reason` is one of `telemetron.reason`, `message` one line of your own, never an upstream's
        body. The source is `degraded` until the next `confirm` of the scope, and `stale` past
        `max_age_seconds` without one.
        """

    def count(self, event: str, number: int = 1) -> None:
        """Count something for `/metrics`: `telemetron_source_events_total{source, event}`."""

    def mount(self, prefix: str, app: ASGIApp) -> None:
        """Answer HTTP requests below one of the collector's `paths` while `run` runs."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every collector's configuration; describe each field with `msgspec.Meta`."""


class Collector(Struct, frozen=True, kw_only=True):
    """What a collector is: a record that its entry point names."""

    name: str
    description: str
    config: type[Config]
    sections: tuple[str, ...]
    """The sections it writes."""
    max_age_seconds: Callable[[Any], float]
    """Its promise, from its configuration: while `ok`, nothing it shows is older."""
    address: Callable[[Any], str | None] = lambda config: None
    """Where it asks, from its configuration: `host:port` without credentials, path or query.

    Called once, in a thread. None: it has no such address, or does not know it.
    """
    run: Callable[[Any, Output], Awaitable[None]]
    """Observes until cancelled. Trouble with the outside is its own; an exception is a bug."""
    paths: tuple[str, ...] = ()
    """URL prefixes it answers, each with a slash at both ends."""
    probes: dict[str, str] = {}
    """Probes below its `paths`, such as `/agents/{name}/livez`, and one line about each.

    A probe is a GET with the read token. The probe port answers it too, without a token. While no
    source of the collector runs, Telemetron answers 200: a probe fails only on evidence.
    """
    openapi: Callable[[], dict[str, Any]] | None = None
    """Its part of the OpenAPI document: `{"paths": …, "components": …}`."""
