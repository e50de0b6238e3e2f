"""An edition: what the next revision will change, staged until it is published in one step."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from telemetron.store.measure import Same
from telemetron.store.rope import Change, Fragment
from telemetron.store.snapshot import Face

encode = msgspec.json.Encoder().encode
# An unescaped quote cannot stand inside a JSON string, so this is always the field itself.
_STAMP = b'"updated_at":"%s"'
_UNSTAMPED = _STAMP % b"0001-01-01T00:00:00Z"


class Edition:
    """What a revision puts and removes, against the faces that are published."""

    def __init__(self, faces: Mapping[str, Face], revision: int, at: datetime) -> None:
        self.entities: Counter[str] = Counter()
        """How many entities more, or fewer, each source contributes to."""
        self.new_bytes = 0
        self._faces = faces
        self._edits: dict[str, dict[str, Fragment | None]] = {name: {} for name in faces}
        self._moved = Change(revision, revision, at)
        self._stamp = encode(at)[1:-1]

    def show(self, section: str, entity: Any, body: bytes, same: Same) -> None:
        """Show an entity, encoded as `body`; where its bytes are published already, nothing."""
        old = self._faces[section].rope.get(entity.key)
        stamp, change = self._stamp, self._moved
        if old:
            kept = body.replace(_UNSTAMPED, _STAMP % old.updated_at)
            if kept == old.body:
                self._edits[section].pop(entity.key, None)
                return
            if same(entity, old.entity):
                stamp, change = old.updated_at, self._measured(old.change)
        new = Fragment(body.replace(_UNSTAMPED, _STAMP % stamp), entity, stamp, change)
        self._edits[section][entity.key] = new
        self.new_bytes += len(new.body)

    def drop(self, section: str, key: str) -> None:
        """Show the entity no more."""
        if self._faces[section].rope.get(key):
            self._edits[section][key] = None
        else:
            self._edits[section].pop(key, None)

    def count(self, new: Sequence[str] | None, old: Sequence[str] | None) -> None:
        """An entity has these sources now, and had those; None: it is not shown."""
        if new != old:
            self.entities.update(new or ())
            self.entities.subtract(old or ())

    def changed(self) -> dict[str, dict[str, bool]]:
        """Section → key → whether more than measures changes."""
        revision = self._moved.revision
        return {
            section: {
                key: new is None or new.change.state_revision == revision
                for key, new in edits.items()
            }
            for section, edits in self._edits.items()
            if edits
        }

    def applied(
        self, changed: Mapping[str, Mapping[str, bool]]
    ) -> Generator[None, None, dict[str, Face]]:
        """All faces with what is changed; yields after each chunk."""
        faces = dict(self._faces)
        for section, keys in changed.items():
            rope, change = faces[section]
            rope = yield from rope.edited(self._edits[section])
            moved = any(keys.values())
            faces[section] = Face(rope, self._moved if moved else self._measured(change))
        return faces

    def _measured(self, old: Change) -> Change:
        return Change(self._moved.revision, old.state_revision, self._moved.at)
