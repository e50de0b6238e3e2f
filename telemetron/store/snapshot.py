"""A snapshot: all sections and sources at one revision, ready to be sent."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import NamedTuple

import msgspec

from telemetron.document import SCHEMA_VERSION, SourceRow
from telemetron.store.rope import Change, Rope, glued

encode = msgspec.json.Encoder().encode


def limits_findings(source: SourceRow) -> bool:
    """Return whether an answer with only findings names the source: it limits their meaning.

    Rows of all sources would be larger than the findings.
    """
    return source.status not in (("ok",) if source.key == "findings" else ("ok", "off"))


class SectionSnapshot(NamedTuple):
    """One section of a snapshot, and its last change."""

    rope: Rope = Rope()
    change: Change = Change()


class Snapshot:
    """One immutable revision; revisions share all chunks that did not change."""

    def __init__(
        self,
        id: str,
        epoch: str,
        started_at: datetime,
        change: Change,
        sections: Mapping[str, SectionSnapshot],
        step: int = 0,
    ) -> None:
        self.id = id
        self.epoch = epoch
        self.started_at = started_at
        self.change = change
        self.sections = sections
        self.step = step
        """In the history: how many times measures were recorded again within this revision."""

    def change_of(self, sections: Sequence[str], key: str | None = None) -> Change | None:
        """Return the last change of the sources and these sections, or of one section's entity.

        Returns None if there is no entity with this key.
        """
        sources = self.sections["sources"].change
        if key is None:
            return reduce(or_, (self.sections[name].change for name in sections), sources)
        fragment = self.sections[sections[0]].rope.get(key)
        return sources | fragment.change if fragment else None

    def chunks(self, sections: Sequence[str], key: str | None = None) -> tuple[bytes, ...]:
        """Return the document with these sections, or with one entity of one section.

        With only findings it has of the sources those that limit what the findings say.

        Large chunks are those of the ropes: shared, not copied. Raises KeyError if there is no
        entity with this key.
        """
        return glued(self._pieces(sections, key))

    def _pieces(self, sections: Sequence[str], key: str | None) -> Iterator[bytes]:
        change = self.change_of(sections, key)
        if change is None:
            raise KeyError(key)
        yield encode(
            {
                "id": self.id,
                "schema_version": SCHEMA_VERSION,
                "epoch": self.epoch,
                "revision": change.revision,
                "started_at": self.started_at,
                "changed_at": change.at,
            }
        )[:-1]
        for name in dict.fromkeys(["sources", *sections]):
            yield b',"%s":[' % name.encode()
            rope = self.sections[name].rope
            fragment = rope.get(key) if key is not None and name == sections[0] else None
            if name == "sources" and tuple(sections) == ("findings",):
                yield b",".join([row.body for row in rope if limits_findings(row.entity)])
            else:
                yield from (fragment.body,) if fragment else rope.pieces()
            yield b"]"
        yield b"}"
