"""A section's bytes as a rope: sorted fragments joined into chunks that revisions share.

A rope is immutable. An edit makes a new one, which costs the chunks it touches, not the whole.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Any

from msgspec import Struct

from telemetron.document import UNSTAMPED

CHUNK_BYTES = 256 * 1024
# A response of up to this size is sent as one piece, which costs a reader least.
ONE_PIECE_BYTES = 1024 * 1024


class Fragment(Struct, frozen=True, gc=False):
    """One published entity."""

    body: bytes
    entity: Any
    """The Struct it was encoded from; shares most of its memory with the parts."""
    updated_at: bytes
    """When its state changed, as text of the body."""
    change: "Change"
    """Its last change."""
    lines: Any = None
    """Its lines of metrics; a scrape adds them, by `msgspec.structs.force_setattr`."""


class Change(Struct, frozen=True, gc=False):
    """The last change of an entity, a section or the document."""

    revision: int = 0
    state_revision: int = 0
    """The last revision that changed more than measures."""
    at: datetime = UNSTAMPED

    def __or__(self, other: "Change") -> "Change":
        """Return the last change of either."""
        newer = max(self, other, key=attrgetter("revision"))
        return Change(newer.revision, max(self.state_revision, other.state_revision), newer.at)


class Chunk:
    """Neighbouring fragments by key; their bytes are joined when first read."""

    def __init__(self, keys: list[str], fragments: list[Fragment], size: int | None = None) -> None:
        """`size` is the length of the body, if it is known."""
        self.keys = keys
        self.fragments = fragments
        if size is None:
            size = sum([len(fragment.body) for fragment in fragments]) + len(fragments)
        self.size = size

    @cached_property
    def body(self) -> bytes:
        """`,{…},{…}`: a comma before each fragment."""
        return b"".join([b",", b",".join([fragment.body for fragment in self.fragments])])

    @property
    def is_joined(self) -> bool:
        """Whether the body was read, and so was joined already."""
        return "body" in vars(self)

    @cached_property
    def head(self) -> bytes:
        """The body without its first comma, for the first chunk of a section."""
        return self.body[1:]

    def edited(self, edits: Mapping[str, Fragment | None], limit: int) -> "Iterator[Chunk]":
        """Return the edited chunk, split into chunks of about `limit` bytes if it grew too large.

        The edits are sorted by key; None removes.
        """
        chunk = self._with_values(edits)
        if chunk and chunk.size <= 2 * limit:
            return iter([chunk])
        fragments: dict[str, Fragment | None] = dict(zip(self.keys, self.fragments, strict=True))
        fragments.update(edits)
        return _chunks([(key, one) for key in sorted(fragments) if (one := fragments[key])], limit)

    def _with_values(self, edits: Mapping[str, Fragment | None]) -> "Chunk | None":
        """Return the edited chunk if the edits add and remove no key: common and cheap."""
        keys, fragments, size = self.keys, self.fragments.copy(), self.size
        for key, value in edits.items():
            at = bisect_left(keys, key)
            if value is None or at == len(keys) or keys[at] != key:
                return None
            size += len(value.body) - len(fragments[at].body)
            fragments[at] = value
        return Chunk(keys, fragments, size)


EMPTY = Chunk([], [])


class Rope:
    """All fragments of a section, sorted by key, in chunks of about `chunk_bytes`."""

    def __init__(self, chunks: Sequence[Chunk] = (), chunk_bytes: int = CHUNK_BYTES) -> None:
        self.chunks = chunks
        self._chunk_bytes = chunk_bytes
        self._firsts = [chunk.keys[0] for chunk in chunks]

    def __len__(self) -> int:
        return sum(len(chunk.keys) for chunk in self.chunks)

    def __iter__(self) -> Iterator[Fragment]:
        return (fragment for chunk in self.chunks for fragment in chunk.fragments)

    def every_key(self) -> Iterator[str]:
        """Yield every key, sorted."""
        return (key for chunk in self.chunks for key in chunk.keys)

    def get(self, key: str) -> Fragment | None:
        """Return the fragment with this key."""
        if not self.chunks:
            return None
        chunk = self.chunks[self._at(key)]
        at = bisect_left(chunk.keys, key)
        return chunk.fragments[at] if at < len(chunk.keys) and chunk.keys[at] == key else None

    def around(self, key: str, most: int) -> list[str]:
        """Return up to `most` keys that sort near this one."""
        if not self.chunks:
            return []
        keys = self.chunks[self._at(key)].keys
        at = bisect_left(keys, key)
        return keys[max(0, at - most // 2) : at + most // 2]

    def join(self) -> Iterator[bytes]:
        """Join the chunks that were not read yet, one chunk a step."""
        return (chunk.body for chunk in self.chunks if not chunk.is_joined)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes between the section's brackets."""
        for chunk in self.chunks[:1]:
            yield chunk.head
        for chunk in self.chunks[1:]:
            yield chunk.body

    def edited(self, edits: Mapping[str, Fragment | None]) -> Generator[None, None, "Rope"]:
        """Return a rope with the edits applied, None removes; yield after each chunk."""
        if not edits:
            return self
        keys = sorted(edits)
        chunks: list[Chunk] = []
        start = 0
        for chunk, following in zip(self.chunks or [EMPTY], [*self._firsts[1:], None], strict=True):
            end = len(keys) if following is None else bisect_left(keys, following, start)
            if start == end:
                chunks.append(chunk)
                continue
            for new in chunk.edited(
                {key: edits[key] for key in keys[start:end]}, self._chunk_bytes
            ):
                chunks.append(new)
                yield
            start = end
        return Rope(_merged(chunks, self._chunk_bytes), self._chunk_bytes)

    def _at(self, key: str) -> int:
        return max(bisect_right(self._firsts, key) - 1, 0)


def glued(
    pieces: Iterable[bytes],
    chunk_bytes: int = CHUNK_BYTES,
    one_piece_bytes: int = ONE_PIECE_BYTES,
) -> tuple[bytes, ...]:
    """Return large pieces as they are, small neighbours joined; one piece if all are small."""
    whole: list[bytes] = []
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < chunk_bytes // 2:
            small.append(piece)
        else:
            whole += (b"".join(small), piece) if small else (piece,)
            small = []
    if small:
        whole.append(b"".join(small))
    if len(whole) > 1 and sum(map(len, whole)) <= one_piece_bytes:
        return (b"".join(whole),)
    return tuple(whole)


def _chunks(fragments: Sequence[tuple[str, Fragment]], limit: int) -> Iterator[Chunk]:
    start = size = 0
    for at, (_, fragment) in enumerate(fragments, 1):
        size += len(fragment.body)
        if size >= limit or at == len(fragments):
            keys, values = zip(*fragments[start:at], strict=True)
            yield Chunk(list(keys), list(values))
            start, size = at, 0


def _merged(chunks: list[Chunk], limit: int) -> list[Chunk]:
    """Join neighbours that removals left small."""
    merged: list[Chunk] = []
    for chunk in chunks:
        if merged and merged[-1].size + chunk.size <= limit // 2:
            last = merged.pop()
            chunk = Chunk(last.keys + chunk.keys, last.fragments + chunk.fragments)
        merged.append(chunk)
    return merged
