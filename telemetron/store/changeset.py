"""The changes of the next revision, staged until the store publishes them in one step."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from telemetron.store.measure import Same
from telemetron.store.rope import Change, Fragment
from telemetron.store.snapshot import SectionSnapshot, encode

# A JSON string cannot contain an unescaped quote, so this always matches the field itself.
_STAMP = b'"updated_at":"%s"'
_UNSTAMPED = _STAMP % b"0001-01-01T00:00:00Z"


def stamped(body: bytes, stamp: bytes) -> bytes:
    """Return the encoding of an entity, or of a part of it, with its `updated_at` filled in."""
    return body.replace(_UNSTAMPED, _STAMP % stamp)


class Changeset:
    """The entities that a revision adds, changes and removes in the published sections."""

    def __init__(
        self, sections: Mapping[str, SectionSnapshot], revision: int, at: datetime
    ) -> None:
        self.entities: Counter[str] = Counter()
        """By source: how many more (or fewer) entities it contributes to."""
        self.new_bytes = 0
        self._sections = sections
        self._edits: dict[str, dict[str, Fragment | None]] = {name: {} for name in sections}
        self._change = Change(revision, revision, at)
        self._stamp = encode(at)[1:-1]

    def put(self, section: str, entity: Any, body: bytes, same: Same) -> None:
        """Stage an entity and its encoding; costs nothing more if these bytes are published."""
        old = self._sections[section].rope.get(entity.key)
        stamp, change = self._stamp, self._change
        pieces = body.split(_UNSTAMPED)
        if old:
            kept = (_STAMP % old.updated_at).join(pieces)
            if kept == old.body:
                self._edits[section].pop(entity.key, None)
                return
            if same(entity, old.entity):
                stamp, change = old.updated_at, self._measured(old.change)
        new = Fragment((_STAMP % stamp).join(pieces), entity, stamp, change)
        self._edits[section][entity.key] = new
        self.new_bytes += len(new.body)

    def remove(self, section: str, key: str) -> None:
        """Stage the removal of an entity."""
        if self._sections[section].rope.get(key):
            self._edits[section][key] = None
        else:
            self._edits[section].pop(key, None)

    def count(self, new: Sequence[str] | None, old: Sequence[str] | None) -> None:
        """Count an entity for its new sources, no longer for its old ones; None: not shown."""
        if new != old:
            self.entities.update(new or ())
            self.entities.subtract(old or ())

    def changed(self) -> dict[str, dict[str, bool]]:
        """Return by section and key whether more than measures changes."""
        revision = self._change.revision
        return {
            section: {
                key: new is None or new.change.state_revision == revision
                for key, new in edits.items()
            }
            for section, edits in self._edits.items()
            if edits
        }

    def apply(
        self, changed: Mapping[str, Mapping[str, bool]]
    ) -> Generator[None, None, dict[str, SectionSnapshot]]:
        """Return all sections with the changes applied; yield after each chunk."""
        sections = dict(self._sections)
        for name, keys in changed.items():
            rope, old = sections[name]
            rope = yield from rope.edited(self._edits[name])
            change = self._change if any(keys.values()) else self._measured(old)
            sections[name] = SectionSnapshot(rope, change)
        return sections

    def _measured(self, old: Change) -> Change:
        """Return the change of something whose measures changed, but not its state."""
        return Change(self._change.revision, old.state_revision, self._change.at)
