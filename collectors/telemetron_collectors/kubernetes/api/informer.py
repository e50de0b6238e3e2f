"""One watch: a kind in a namespace (or in all), kept true whatever the server does.

A first list comes as a stream (WatchList), or paged where the server does not do that; then events
follow. After an interruption the watch resumes at its last resourceVersion; where the server has
forgotten that (410), all is listed anew, and what is no longer there is dropped.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp
import msgspec

from telemetron.backoff import Backoff
from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kubernetes.api.connection import (
    Connection,
    GoneError,
    Query,
    RefusedError,
    status_of,
)
from telemetron_collectors.kubernetes.api.objects import Event, Identified, Kind, Named, Page
from telemetron_collectors.kubernetes.pace import paced

# Bookmarks come every 60 s.
SILENCE_SECONDS = 70.0
# A list that is streamed goes on without a pause.
LIST_SILENCE_SECONDS = 5.0
LIST_SECONDS = 30.0
# What a resumed watch has missed comes at once; so does the news that it cannot be resumed.
RESUME_SECONDS = 1.0
MIN_WATCH_SECONDS, MAX_WATCH_SECONDS = 300, 600
PAGE_ITEMS = 500
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_ODD = 50_000

STREAM = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
}
PARTIAL = "application/json;as={};g=meta.k8s.io;v=v1,application/json"


At = tuple[str, str]
"""Namespace and name."""


class NoEndError(Exception):
    """The streamed list does not end: the server does not know of such."""


class Reader(Protocol):
    """Who takes what a watch sees."""

    def take(self, kind: str, object: Any) -> None:
        """This is one object now."""

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """It is no more."""

    def names(self, kind: str, namespace: str | None) -> list[tuple[str, str]]:
        """Namespace and name of all that is known."""

    def synced(self, scope: str) -> None:
        """All that there is is known."""

    def confirm(self, scope: str, odd: int) -> None:
        """All that is known is true now, but `odd` objects are not understood."""

    def refuse(self, scope: str, refusal: RefusedError) -> None:
        """Nothing is known, and the server does not tell."""

    def trouble(self, scope: str, trouble: TroubleError) -> None:
        """What is known is no longer kept true."""

    def count(self, event: str, number: int = 1) -> None:
        """For metrics."""


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """An event whose object is of another kind, or odd."""

    type: str
    object: msgspec.Raw


class Watch:
    """`run` it until it is cancelled."""

    def __init__(
        self,
        kind: Kind,
        namespace: str | None,
        connection: Connection,
        reader: Reader,
        clock: Clock,
        selector: str | None = None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.scope = kind.resource if namespace is None else f"{namespace}/{kind.resource}"
        self._connection = connection
        self._reader = reader
        self._clock = clock
        self._selection = {"labelSelector": selector} if selector and kind.selected else {}
        within = "" if namespace is None else f"/namespaces/{namespace}"
        self._path = f"{kind.path}{within}/{kind.resource}"
        self._resource = kind.resource + (f" in {namespace}" if namespace else "")
        event: Any = Event
        self._event = msgspec.json.Decoder(event[kind.type]).decode
        self._object = msgspec.json.Decoder(kind.type).decode
        self._version = ""
        """Where to go on; empty: list first."""
        self._streams = True
        self._synced = False
        self._opened = False
        self._backoff = Backoff()
        self._odd: set[At] = set()
        self._nameless = 0
        """Objects of the last list that have not even a name."""
        self._seen: set[At] | None = None
        """What the list that is under way has; None: there is none."""

    async def run(self) -> None:
        """Follow, and begin again whenever that ends."""
        while True:
            self._opened = False
            retry_after = None
            try:
                await self._follow()
            except GoneError:
                self._version = ""
                self._reader.count("relists")
            except NoEndError:
                self._streams = False
            except TroubleError as trouble:
                self._say(trouble)
                retry_after = trouble.retry_after
            # While nothing is reachable the connection says when to ask.
            if self._opened or self._connection.is_reachable:
                await self._clock.sleep(self._backoff.next(retry_after))

    def _say(self, trouble: TroubleError) -> None:
        if isinstance(trouble, RefusedError) and not self._synced:
            self._reader.refuse(self.scope, trouble)
        else:
            self._reader.trouble(self.scope, trouble)

    async def _follow(self) -> None:
        if self._version:
            return await self._watch({"resourceVersion": self._version})
        if not self._streams:
            await self._list()
            return await self._watch({"resourceVersion": self._version})
        try:
            await self._watch(STREAM)
        except RefusedError as refusal:
            if refusal.code not in (400, 422):
                raise
            self._streams = False  # the next try lists

    # a list in pages

    async def _list(self) -> None:
        self._seen, self._nameless = set(), 0
        query: dict[str, str] = {"limit": str(PAGE_ITEMS), **self._selection}
        while True:
            page = await self._page(query)
            async for item in paced(page.items or ()):
                self._item(item)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        self._opened = True
        self._in_sync(page.metadata.resource_version)

    async def _page(self, query: Query) -> Page:
        accept = self._accept("PartialObjectMetadataList")
        body = await self._connection.get(
            self.scope, self._path, query, verb="list", resource=self._resource, accept=accept
        )
        try:
            return msgspec.json.decode(body, type=Page)
        except msgspec.DecodeError:
            message = f"list {self._resource}: the answer is no list"
            raise TroubleError("BadAnswer", message) from None

    def _item(self, item: msgspec.Raw) -> None:
        try:
            self._take(self._object(item))
        except msgspec.DecodeError:
            self._set_aside(item)

    # a stream of events

    async def _watch(self, query: Query) -> None:
        self._seen = None
        if query is STREAM:
            self._seen, self._nameless = set(), 0
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(MIN_WATCH_SECONDS, MAX_WATCH_SECONDS)),
            **query,
            **self._selection,
        }
        accept = self._accept("PartialObjectMetadata")
        async with self._connection.open(
            self.scope, self._path, query, verb="watch", resource=self._resource, accept=accept
        ) as response:
            self._opened = True
            deadline = self._clock.monotonic() + LIST_SECONDS
            async for lines in self._lines(response):
                async for line in paced(lines):
                    if line:
                        self._line(line)
                if not lines:
                    self._backoff.reset()
                if self._seen is None:
                    self._confirm()
                elif self._clock.monotonic() > deadline:
                    raise NoEndError

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
        """Whole lines, as they come; none where a resumed watch has nothing to say at first.

        What the server cut short at the end is no line.
        """
        rest = b""
        patience = RESUME_SECONDS if self._seen is None else LIST_SILENCE_SECONDS
        while True:
            try:
                async with asyncio.timeout(patience):
                    chunk = await response.content.readany()
            except TimeoutError:
                if self._seen is not None:
                    raise NoEndError from None
                if patience == SILENCE_SECONDS:
                    raise
                patience = SILENCE_SECONDS
                yield []
                continue
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise TroubleError("BadAnswer", f"watch {self._resource}: a line has no end")
            if lines:
                yield lines
            patience = SILENCE_SECONDS if self._seen is None else LIST_SILENCE_SECONDS

    def _line(self, line: bytes) -> None:
        """Take one event."""
        try:
            event = self._event(line)
        except msgspec.ValidationError:
            return self._other(line)
        except msgspec.DecodeError:
            message = f"watch {self._resource}: a line that is not JSON"
            raise TroubleError("BadAnswer", message) from None
        if event.type in ("ADDED", "MODIFIED"):
            self._take(event.object)
        elif event.type == "DELETED":
            self._drop(event.object)
        elif event.type == "BOOKMARK":
            return self._bookmark(event.object)
        else:
            return self._other(line)
        self._moved_to(event.object.metadata.resource_version)

    def _bookmark(self, object: Named) -> None:
        metadata = object.metadata
        if self._seen is None:
            self._moved_to(metadata.resource_version)
        elif metadata.annotations and metadata.annotations.initial_events_end:
            self._in_sync(metadata.resource_version)

    def _moved_to(self, version: str) -> None:
        """Once the list is complete every event is progress."""
        if self._seen is None:
            self._version = version
            self._backoff.reset()

    def _other(self, line: bytes) -> None:
        """An error, or an object that is not as its kind should be."""
        try:
            event = msgspec.json.decode(line, type=RawEvent)
        except msgspec.DecodeError:
            message = f"watch {self._resource}: a line that is no event"
            raise TroubleError("BadAnswer", message) from None
        if event.type == "ERROR":
            raise status_of(event.object, f"watch {self._resource}")
        if event.type == "DELETED":
            one = self._named(event.object)
            self._drop(one)
            self._moved_to(one.metadata.resource_version)
        elif event.type != "BOOKMARK":
            self._moved_to(self._set_aside(event.object))

    # what is seen

    def _take(self, object: Named) -> None:
        at = object.metadata.namespace, object.metadata.name
        self._reader.take(self.kind.name, object)
        if self._odd:
            self._odd.discard(at)
        if self._seen is not None:
            self._seen.add(at)

    def _drop(self, object: Named | Identified) -> None:
        metadata = object.metadata
        self._odd.discard((metadata.namespace, metadata.name))
        self._reader.drop(self.kind.name, metadata.namespace, metadata.name)

    def _named(self, raw: msgspec.Raw) -> Identified:
        """What every object has."""
        try:
            return msgspec.json.decode(raw, type=Identified)
        except msgspec.DecodeError:
            if self._seen is None:
                self._version = ""  # a watch resumed from there would be sent it again
            message = f"{self._resource}: an object without metadata"
            raise TroubleError("BadAnswer", message) from None

    def _set_aside(self, raw: msgspec.Raw) -> str:
        """An odd object: what is known of it stays. Gives its resourceVersion."""
        self._reader.count("odd_objects")
        try:
            metadata = self._named(raw).metadata
        except TroubleError:
            if self._seen is None:
                raise
            self._nameless += 1
            return ""
        at = metadata.namespace, metadata.name
        if len(self._odd) < MAX_ODD:
            self._odd.add(at)
        if self._seen is not None:
            self._seen.add(at)
        return metadata.resource_version

    def _in_sync(self, version: str) -> None:
        """The list is complete: what is not in it is gone."""
        seen, self._seen = self._seen or set(), None
        for namespace, name in self._reader.names(self.kind.name, self.namespace):
            if (namespace, name) not in seen:
                self._reader.drop(self.kind.name, namespace, name)
        self._odd &= seen
        self._version = version
        self._synced = True
        self._reader.synced(self.scope)
        self._confirm()

    def _confirm(self) -> None:
        self._reader.confirm(self.scope, len(self._odd) + self._nameless)

    def _accept(self, partial: str) -> str:
        return PARTIAL.format(partial) if self.kind.partial else "application/json"
