"""Keeps the state of one kind in one namespace (or in all) equal to the API server's.

The first list comes as a stream (WatchList), or in pages if the server does not stream lists. Then
events follow. After an interruption the informer resumes at its last resourceVersion. If the server
no longer has that version (410), the informer lists again and removes the objects that are gone.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp
import msgspec

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron.slices import paced
from telemetron_collectors.kubernetes.api.connection import (
    ApiConnection,
    ExpiredError,
    Query,
    RefusedError,
    error_of_event,
)
from telemetron_collectors.kubernetes.api.objects import (
    Identified,
    ListPage,
    Named,
    ObjectKey,
    WatchedKind,
    WatchEvent,
)
from telemetron_collectors.kubernetes.bounds import DEFAULTS, Bounds

STREAM = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
}
PARTIAL = "application/json;as={};g=meta.k8s.io;v=v1,application/json"


class EndlessListError(Exception):
    """The streamed list does not end: the server does not know WatchList."""


class ObjectStore(Protocol):
    """The objects that an informer keeps."""

    def apply(self, kind: str, object: Any) -> None:
        """Add an object, or replace its last version."""

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Remove a deleted object."""

    def keys(self, kind: str, namespace: str | None) -> list[ObjectKey]:
        """Return the keys of all objects of a kind."""


class Monitor(Protocol):
    """Receives reports on how up to date each scope is."""

    def synced(self, scope: str) -> None:
        """All objects of the scope were listed."""

    def confirm(self, scope: str, malformed: int) -> None:
        """The state is up to date, except for `malformed` objects, which were not decoded."""

    def refuse(self, scope: str, refusal: RefusedError) -> None:
        """The server refuses the first list."""

    def trouble(self, scope: str, trouble: TroubleError) -> None:
        """The state is no longer up to date."""


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """An event whose object is an error, or malformed."""

    type: str
    object: msgspec.Raw


class Informer:
    """Lists and watches one kind while `run` runs."""

    def __init__(
        self,
        kind: WatchedKind,
        namespace: str | None,
        connection: ApiConnection,
        store: ObjectStore,
        monitor: Monitor,
        output: Output,
        selector: str | None = None,
        bounds: Bounds = DEFAULTS,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.scope = kind.resource if namespace is None else f"{namespace}/{kind.resource}"
        self._connection = connection
        self._store = store
        self._monitor = monitor
        self._output = output
        self._bounds = bounds
        self._selection = {"labelSelector": selector} if selector and kind.selected else {}
        within = "" if namespace is None else f"/namespaces/{namespace}"
        self._path = f"{kind.path}{within}/{kind.resource}"
        self._resource = kind.resource + (f" in {namespace}" if namespace else "")
        self._watching = f"watch {self._resource}"
        event: Any = WatchEvent
        self._decode_event = msgspec.json.Decoder(event[kind.type]).decode
        self._decode_object = msgspec.json.Decoder(kind.type).decode
        self._version = ""
        """The resourceVersion to resume at; empty: list first."""
        self._streams_lists = True
        self._is_synced = False
        self._was_opened = False
        self._has_progressed = False
        self._malformed: set[ObjectKey] = set()
        self._nameless = 0
        """Malformed objects of the last list that have not even a name."""
        self._listed: set[ObjectKey] | None = None
        """The objects of the current list so far; None: no list is in progress."""

    async def run(self) -> None:
        """List and watch until cancelled, again after each interruption."""
        backoff = Backoff(self._bounds.first_retry_seconds, self._bounds.max_retry_seconds)
        while True:
            self._was_opened = self._has_progressed = False
            retry_after = None
            try:
                await self._follow()
            except ExpiredError:
                self._version = ""
                self._output.count("relists")
            except EndlessListError:
                self._streams_lists = False
            except TroubleError as trouble:
                self._report(trouble)
                retry_after = trouble.retry_after
            if self._has_progressed:
                backoff.reset()
            # While the server is unreachable, the connection decides when to ask.
            if self._was_opened or self._connection.is_reachable:
                await self._output.clock.sleep(backoff.next(retry_after))

    def _report(self, trouble: TroubleError) -> None:
        if isinstance(trouble, RefusedError) and not self._is_synced:
            self._monitor.refuse(self.scope, trouble)
        else:
            self._monitor.trouble(self.scope, trouble)

    async def _follow(self) -> None:
        if self._version:
            return await self._watch({"resourceVersion": self._version})
        if not self._streams_lists:
            await self._list()
            return await self._watch({"resourceVersion": self._version})
        try:
            await self._watch(STREAM)
        except RefusedError as refusal:
            if refusal.code not in (400, 422):
                raise
            self._streams_lists = False  # the next attempt lists in pages

    # a list in pages

    async def _list(self) -> None:
        self._listed, self._nameless = set(), 0
        query: dict[str, str] = {"limit": str(self._bounds.page_items), **self._selection}
        while True:
            page = await self._page(query)
            async for item in paced(page.items or ()):
                self._apply_raw(item)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        self._was_opened = True
        self._end_list(page.metadata.resource_version)

    async def _page(self, query: Query) -> ListPage:
        accept = self._accept("PartialObjectMetadataList")
        body = await self._connection.get(
            self.scope, self._path, query, action=f"list {self._resource}", accept=accept
        )
        try:
            return msgspec.json.decode(body, type=ListPage)
        except msgspec.DecodeError:
            message = f"list {self._resource}: the response is not a list"
            raise TroubleError("BadAnswer", message) from None

    def _apply_raw(self, item: msgspec.Raw) -> None:
        try:
            self._apply(self._decode_object(item))
        except msgspec.DecodeError:
            self._skip(item)

    # a stream of events

    async def _watch(self, query: Query) -> None:
        self._listed = None
        if query is STREAM:
            self._listed, self._nameless = set(), 0
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*self._bounds.watch_seconds)),
            **query,
            **self._selection,
        }
        accept = self._accept("PartialObjectMetadata")
        async with self._connection.open(
            self.scope, self._path, query, action=self._watching, accept=accept
        ) as response:
            self._was_opened = True
            await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        monotonic = self._output.clock.monotonic
        deadline = monotonic() + self._bounds.list_seconds
        async for lines in self._lines(response):
            async for line in paced(lines):
                if line:
                    self._apply_line(line)
            if not lines:
                self._has_progressed = True
            if self._listed is None:
                self._confirm()
            elif monotonic() > deadline:
                raise EndlessListError

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
        """Yield the complete lines of each chunk, and [] if a resumed watch has no news at first.

        A line that the server cut off at the end is dropped.
        """
        bounds = self._bounds
        rest = b""
        patience = bounds.resume_seconds if self._listed is None else bounds.list_silence_seconds
        while True:
            try:
                async with asyncio.timeout(patience):
                    chunk = await response.content.readany()
            except TimeoutError:
                if self._listed is not None:
                    raise EndlessListError from None
                if patience == bounds.silence_seconds:
                    raise
                patience = bounds.silence_seconds
                yield []
                continue
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > bounds.line_bytes:
                raise TroubleError("BadAnswer", f"{self._watching}: a line is too long")
            if lines:
                yield lines
            is_listing = self._listed is not None
            patience = bounds.list_silence_seconds if is_listing else bounds.silence_seconds

    def _apply_line(self, line: bytes) -> None:
        """Apply one event."""
        try:
            event = self._decode_event(line)
        except msgspec.ValidationError:
            return self._apply_other(line)
        except msgspec.DecodeError:
            message = f"{self._watching}: a line is not JSON"
            raise TroubleError("BadAnswer", message) from None
        if event.type in ("ADDED", "MODIFIED"):
            self._apply(event.object)
        elif event.type == "DELETED":
            self._remove(event.object)
        elif event.type == "BOOKMARK":
            return self._apply_bookmark(event.object)
        else:
            return self._apply_other(line)
        self._advance(event.object.metadata.resource_version)

    def _apply_bookmark(self, object: Named) -> None:
        metadata = object.metadata
        if self._listed is None:
            self._advance(metadata.resource_version)
        elif metadata.annotations and metadata.annotations.initial_events_end:
            self._end_list(metadata.resource_version)

    def _advance(self, version: str) -> None:
        """Resume here from now on; an incomplete list cannot be resumed."""
        if self._listed is None:
            self._version = version
            self._has_progressed = True

    def _apply_other(self, line: bytes) -> None:
        """Apply an error, or an event whose object does not fit the kind's type."""
        try:
            event = msgspec.json.decode(line, type=RawEvent)
        except msgspec.DecodeError:
            message = f"{self._watching}: a line is not an event"
            raise TroubleError("BadAnswer", message) from None
        if event.type == "ERROR":
            raise error_of_event(event.object, self._watching)
        if event.type == "DELETED":
            object = self._identified(event.object)
            self._remove(object)
            self._advance(object.metadata.resource_version)
        elif event.type != "BOOKMARK":
            self._advance(self._skip(event.object))

    # objects

    def _apply(self, object: Named) -> None:
        key = object.metadata.namespace, object.metadata.name
        self._store.apply(self.kind.name, object)
        if self._malformed:
            self._malformed.discard(key)
        if self._listed is not None:
            self._listed.add(key)

    def _remove(self, object: Named | Identified) -> None:
        metadata = object.metadata
        self._malformed.discard((metadata.namespace, metadata.name))
        self._store.remove(self.kind.name, metadata.namespace, metadata.name)

    def _identified(self, raw: msgspec.Raw) -> Identified:
        """Decode only an object's identity, which every object must have."""
        try:
            return msgspec.json.decode(raw, type=Identified)
        except msgspec.DecodeError:
            if self._listed is None:
                self._version = ""  # a resumed watch would receive the same object again
            message = f"{self._resource}: an object has no metadata"
            raise TroubleError("BadAnswer", message) from None

    def _skip(self, raw: msgspec.Raw) -> str:
        """Keep the last version of a malformed object, and return its resourceVersion."""
        self._output.count("odd_objects")
        try:
            metadata = self._identified(raw).metadata
        except TroubleError:
            if self._listed is None:
                raise
            self._nameless += 1
            return ""
        key = metadata.namespace, metadata.name
        if len(self._malformed) < self._bounds.objects:
            self._malformed.add(key)
        if self._listed is not None:
            self._listed.add(key)
        return metadata.resource_version

    def _end_list(self, version: str) -> None:
        """Remove the objects that a complete list does not have."""
        listed, self._listed = self._listed or set(), None
        for key in self._store.keys(self.kind.name, self.namespace):
            if key not in listed:
                self._store.remove(self.kind.name, *key)
        self._malformed &= listed
        self._version = version
        self._is_synced = True
        self._monitor.synced(self.scope)
        self._confirm()

    def _confirm(self) -> None:
        self._monitor.confirm(self.scope, len(self._malformed) + self._nameless)

    def _accept(self, partial: str) -> str:
        return PARTIAL.format(partial) if self.kind.partial else "application/json"
