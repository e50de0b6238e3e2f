"""The metrics of the state: rendered in slices, and only what changed since the last scrape."""

import asyncio
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

from msgspec.structs import force_setattr

from telemetron.exposition.family import Family, Lines, SectionSeries, labels
from telemetron.exposition.finished import Finished
from telemetron.exposition.piece import Member, Piece
from telemetron.exposition.sections import sections, tallied
from telemetron.slices import sliced
from telemetron.store.rope import ONE_PIECE_BYTES, Chunk, Fragment, Rope
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Store

DROPPED = Family(
    "telemetron_state_series_dropped", ("section",), "Series left out because of max_series."
)
END = Piece(b"# EOF\n")
MOST_PAGES = 4
"""Pages of one snapshot that are kept: of other sections, or in another format."""
SLICE_SECONDS = 0.002
"""The longest steps take as long again."""
BLOCK = 256
"""Entities of a block, if not all of the section are shown."""


class Asked(NamedTuple):
    """What a scrape asks for."""

    sections: tuple[str, ...]
    open_metrics: bool
    gzip: bool


class Block:
    """The lines of neighbouring entities, one piece a family."""

    def __init__(self, lines: Sequence[Lines], old: "Block | None" = None) -> None:
        """`old` is the last version of the block: its pieces are compressed already."""
        self.lines = lines
        self.series = sum([one.series for one in lines])
        texts = [b"".join(one) for one in zip(*[one.texts for one in lines], strict=True)]
        known = old.pieces if old else [None] * len(texts)
        self.pieces: list[Piece] = [
            piece if piece and piece.text == text else Piece(text)
            for piece, text in zip(known, texts, strict=True)
        ]


class Rendered:
    """One section of a snapshot as lines."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = families
        self.blocks: dict[str, Block] = {}
        """By the first key of their chunk."""

    @property
    def series(self) -> int:
        """How many series it has."""
        return sum([block.series for block in self.blocks.values()])

    def pieces(self, asked: Asked) -> Iterator[Piece]:
        """Yield its pieces, all lines of a family in a row."""
        for at, family in enumerate(self.families):
            yield family.open_header if asked.open_metrics else family.text_header
            yield from [one.pieces[at] for one in self.blocks.values() if one.pieces[at].text]


class Rendering:
    """The sections of one snapshot that were asked for so far, and the pages of them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = ref(snapshot)  # an old one must not stay until the next scrape
        self.sections: dict[str, Rendered] = {}
        self.pages: dict[Asked, tuple[bytes, ...]] = {}

    def is_of(self, snapshot: Snapshot) -> bool:
        """Return whether it renders this snapshot."""
        return self._snapshot() is snapshot

    def free(self) -> Iterator[None]:
        """Drop the blocks; yield after each, because it takes longer than a slice."""
        for rendered in self.sections.values():
            while rendered.blocks:
                rendered.blocks.popitem()
                yield


class Exposition:
    """Renders the snapshots of a store; a page has at most `max_series` series of entities."""

    def __init__(self, store: Store, max_series: int) -> None:
        self._store = store
        self._max_series = max_series
        self._finished = Finished()
        self._series = sections(self._finished)
        self._blocks: WeakKeyDictionary[Chunk, Block] = WeakKeyDictionary()
        self._lock = asyncio.Lock()
        self._begun = 0
        self._last = Rendering(store.snapshot)

    async def page(self, asked: Asked) -> tuple[bytes, ...]:
        """Return the page as chunks.

        Scrapes that come during a rendering share the next one, so that no number of them makes
        more than one run at a time.
        """
        arrived = self._begun
        async with self._lock:
            rendering = before = self._last
            shared = self._begun != arrived and asked in before.pages
            if not shared and not before.is_of(self._store.snapshot):
                self._begun += 1
                self._last = rendering = Rendering(self._store.snapshot)
            if asked not in rendering.pages:
                steps = self._steps(rendering, before, self._store.snapshot, asked)
                await _run(chain(steps, before.free() if before is not rendering else ()))
            return rendering.pages[asked]

    def _steps(
        self, rendering: Rendering, before: Rendering, snapshot: Snapshot, asked: Asked
    ) -> Iterator[None]:
        for name in asked.sections:
            if name not in rendering.sections:
                old = before.sections.get(name)
                rendering.sections[name] = yield from self._render(
                    name, snapshot.sections[name].rope, old.blocks if old else {}
                )
        shown, dropped = {}, {}
        for name, share in _shares(rendering.sections, asked.sections, self._max_series).items():
            shown[name] = rendered = rendering.sections[name]
            if rendered.series > share:
                shown[name] = Rendered(rendered.families)
                yield from _keep_worst(rendered, share, shown[name])
            dropped[name] = rendered.series - shown[name].series
        pieces = [piece for name in asked.sections for piece in shown[name].pieces(asked)]
        pieces += _dropped(dropped, asked)
        yield
        page = yield from _gzip(pieces) if asked.gzip else _plain(pieces)
        while len(rendering.pages) >= MOST_PAGES:
            del rendering.pages[next(iter(rendering.pages))]
        rendering.pages[asked] = page

    def _render(
        self, name: str, rope: Rope, old: Mapping[str, Block]
    ) -> Generator[None, None, Rendered]:
        """Return the section; `old` are the blocks of its last version."""
        series = self._series[name]
        rendered = Rendered(series.families)
        if name == "findings":
            if tally := tallied([fragment.entity for fragment in rope]):
                rendered.blocks[""] = Block([series.lines(one) for one in tally])
            return rendered
        for chunk in rope.chunks:
            first = chunk.keys[0]
            block = self._blocks.get(chunk)
            if block is None:
                yield from _render_each(chunk.fragments, series)
                lines = [_lines(one, series) for one in chunk.fragments]
                block = self._blocks[chunk] = Block(lines, old.get(first))
            rendered.blocks[first] = block
            yield
        if name == "agents":
            self._finished.forget(rope)
        return rendered


async def _run(steps: Iterable[None]) -> None:
    for _ in sliced(steps, SLICE_SECONDS):
        await asyncio.sleep(0)


def _lines(fragment: Fragment, series: SectionSeries) -> Lines:
    """Return the lines of an entity; they are kept with the fragment."""
    found: Lines | None = fragment.lines
    if found is None:
        found = series.lines(fragment.entity)
        force_setattr(fragment, "lines", found)
    return found


def _render_each(fragments: Iterable[Fragment], series: SectionSeries) -> Iterator[None]:
    for fragment in fragments:
        _lines(fragment, series)
        yield


def _shares(
    rendered: Mapping[str, Rendered], names: Iterable[str], total: int
) -> Mapping[str, int]:
    """Return how many series each section may show: small ones all, large ones the same number."""
    shares = {}
    ascending = sorted(names, key=lambda name: rendered[name].series)
    for at, name in enumerate(ascending):
        shares[name] = min(rendered[name].series, total // (len(ascending) - at))
        total -= shares[name]
    return shares


def _keep_worst(rendered: Rendered, most: int, shown: Rendered) -> Iterator[None]:
    """Fill `shown` with the worst entities, of equal ones the first by key."""
    by_worth: dict[int, list[Lines]] = {}
    for block in rendered.blocks.values():
        for one in block.lines:
            by_worth.setdefault(one.worth, []).append(one)
        yield
    kept = _fitting(
        (one for worth in sorted(by_worth, reverse=True) for one in by_worth[worth]), most
    )
    while lines := list(islice(kept, BLOCK)):
        shown.blocks[f"{len(shown.blocks)}"] = Block(lines)
        yield


def _fitting(lines: Iterable[Lines], most: int) -> Iterator[Lines]:
    for one in lines:
        most -= one.series
        if most < 0:
            return
        yield one


def _dropped(dropped: Mapping[str, int], asked: Asked) -> Iterator[Piece]:
    """Yield the last pieces of a page: how many series it lacks, and its end."""
    yield DROPPED.open_header if asked.open_metrics else DROPPED.text_header
    lines = [
        f"{DROPPED.name}{{{labels(section=name)}}} {dropped[name]}\n" for name in asked.sections
    ]
    yield Piece("".join(lines).encode())
    if asked.open_metrics:
        yield END


def _plain(pieces: Iterable[Piece]) -> Generator[None, None, tuple[bytes, ...]]:
    """Return the page, its pieces joined to chunks; yield after each chunk."""
    chunks: list[bytes] = []
    texts: list[bytes] = []
    size = 0
    for piece in pieces:
        texts.append(piece.text)
        size += len(piece.text)
        if size >= ONE_PIECE_BYTES:
            chunks.append(b"".join(texts))
            texts, size = [], 0
            yield
    return (*chunks, b"".join(texts)) if texts else tuple(chunks)


def _gzip(pieces: Iterable[Piece]) -> Generator[None, None, tuple[bytes, ...]]:
    """Return the page compressed; yield after each piece."""
    member = Member()
    for piece in pieces:
        member.add(piece.packed)
        yield
    return (member.end(),)
