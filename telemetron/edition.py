"""An edition: what the next revision will change, staged until it is published in one step."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from telemetron.rope import Change, Fragment
from telemetron.snapshot import Face

encode = msgspec.json.Encoder().encode
# An unescaped quote cannot stand inside a JSON string, so this is always the field itself.
_STAMP = b'"updated_at":"%s"'
_UNSTAMPED = _STAMP % b"0001-01-01T00:00:00Z"


class Edition:
    """The fragments that a revision puts and removes, by section and key."""

    def __init__(self, revision: int, at: datetime) -> None:
        self.revision = revision
        self.at = at
        self.stamp = encode(at)[1:-1]
        self.edits: dict[str, dict[str, Fragment | None]] = defaultdict(dict)
        self.changed: dict[str, dict[str, bool]] = defaultdict(dict)
        self.entities: Counter[str] = Counter()
        self.new_bytes = 0

    def show(
        self,
        section: str,
        entity: Any,
        old: Fragment | None,
        state: Callable[[Any], Any],
        sources: Callable[[Any], Sequence[str]],
    ) -> Fragment:
        """The entity's fragment: `old` itself where its bytes would be the same."""
        body = encode(entity)
        if old and body.replace(_UNSTAMPED, _STAMP % old.updated_at) == old.body:
            return old
        moved = old is None or state(entity) != state(old.entity)
        stamp = self.stamp if moved or not old else old.updated_at
        since = self.revision if moved or not old else old.change.state_revision
        change = Change(self.revision, since, self.at)
        new = Fragment(body.replace(_UNSTAMPED, _STAMP % stamp), entity, stamp, change)
        self._put(section, entity.key, new, moved)
        self.entities.update(sources(entity))
        self.entities.subtract(sources(old.entity) if old else ())
        return new

    def drop(self, section: str, old: Fragment, sources: Callable[[Any], Sequence[str]]) -> None:
        """The entity is gone, unless another group shows it in this edition."""
        self._put(section, old.entity.key, None, True)
        self.entities.subtract(sources(old.entity))

    def applied(self, section: str, face: Face) -> Face:
        """The section with the edits; the same face where there are none."""
        rope = face.rope
        edits = {k: new for k, new in self.edits[section].items() if new or rope.get(k)}
        if not edits:
            return face
        moved = any(self.changed[section][key] for key in edits)
        since = self.revision if moved else face.change.state_revision
        return Face(rope.edited(edits), Change(self.revision, since, self.at))

    def _put(self, section: str, key: str, fragment: Fragment | None, moved: bool) -> None:
        self.edits[section][key] = fragment
        self.changed[section][key] = moved
        self.new_bytes += len(fragment.body) if fragment else 0
