"""The view: entities as rules see them, found by the names that they refer to.

It notes what each evaluation has read, so that an entity is evaluated again if, and only if, it or
something that it was judged by has changed.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from telemetron.diagnosis.trend import Ref, Streaks, Trends
from telemetron.store.rope import Fragment, Rope
from telemetron.store.snapshot import Snapshot

Term = tuple[str, Hashable]
"""Name of an index, and what is looked up in it."""


class Index:
    """The entities of one section that have a term."""

    def __init__(self, section: str, terms: Callable[[Any], Iterable[Hashable]]) -> None:
        self.section = section
        self._terms = terms
        self._of: dict[str, frozenset[Hashable]] = {}
        self._keys: dict[Hashable, set[str]] = {}

    def update(self, key: str, entity: Any) -> frozenset[Hashable]:
        """Enter an entity, None if it is gone; return the terms that it has or had."""
        old = self._of.pop(key, frozenset())
        new = frozenset(self._terms(entity)) if entity is not None else frozenset()
        for term in old - new:
            self._keys[term].discard(key)
            if not self._keys[term]:
                del self._keys[term]
        for term in new - old:
            self._keys.setdefault(term, set()).add(key)
        if new:
            self._of[key] = new
        return old | new

    def keys(self, term: Hashable) -> list[str]:
        """Return the sorted keys of the entities that have the term."""
        return sorted(self._keys.get(term, ()))

    def count(self, term: Hashable) -> int:
        """Return how many entities have the term."""
        return len(self._keys.get(term, ()))

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._keys)


class View:
    """Read-only; `snapshot` is what it shows."""

    def __init__(self, snapshot: Snapshot, indexes: Mapping[str, Index], trends: Trends) -> None:
        self.snapshot = snapshot
        self.trends = trends
        self.now = datetime.min.replace(tzinfo=UTC)
        self.monotonic = 0.0
        self.autoscaled: set[str] = set()
        """Workloads that were seen below their maximum."""
        self.homes: dict[str, list[str]] = {}
        """Workloads whose pods were members of a queue's group last, by the queue's key."""
        self.usual_latency: dict[str, float] = {}
        """The least mean latency of a deployment while it was not slow, by its key."""
        self.streaks = Streaks()
        self._indexes = indexes
        self._readers: defaultdict[Term, set[Ref]] = defaultdict(set)
        self._reads: dict[Ref, set[Term]] = {}
        self._reader: Ref | None = None
        self.revisited: set[Ref] = set()
        """Entities that may show a symptom with time alone."""

    def show(self, snapshot: Snapshot, changed: Iterable[Ref]) -> Iterator[Iterable[Ref]]:
        """Show a snapshot; yield for each changed entity the entities to be evaluated again."""
        self.snapshot = snapshot
        for section, key in changed:
            entity = self._look(section, key)
            terms = self._enter(section, key, entity)
            readers = [reader for term in terms for reader in self._readers.get(term, ())]
            yield (section, key), *readers

    def get(self, section: str, key: str) -> Any:
        """Return the entity, None if there is none."""
        self._note((section, key))
        return self._look(section, key)

    def find(self, index: str, term: Hashable) -> list[Any]:
        """Return the entities that have the term, by key."""
        self._note((index, term))
        one = self._indexes[index]
        return [found for key in one.keys(term) if (found := self._look(one.section, key))]

    def count(self, index: str, term: Hashable) -> int:
        """Return how many entities have the term."""
        self._note((index, term))
        return self._indexes[index].count(term)

    def terms(self, index: str) -> list[Hashable]:
        """Return all that entities can be found by; the reader is not evaluated again for it."""
        return list(self._indexes[index])

    @property
    def serves_models(self) -> bool:
        """Whether a proxy is in sight, so that a model can be missed."""
        rows = [self.get("sources", fragment.entity.key) for fragment in self._rope("sources")]
        return any(row.collector == "litellm" and row.status == "ok" for row in rows)

    def serving(self, model: str) -> list[Any]:
        """Return the deployments that serve the model, by its name, an alias or a pattern."""
        if found := self.find("deployments of model", model):
            return found
        patterns = [str(one) for one in self._indexes["deployments of model"] if "*" in str(one)]
        named = [one for one in patterns if fnmatchcase(model, one)]
        return [each for one in sorted(named) for each in self.find("deployments of model", one)]

    def waiting_for(self, models: Iterable[str]) -> list[Any]:
        """Return the agents with stalled tasks that wait for one of these models, or patterns."""
        names = {*models}
        for pattern in [one for one in names if "*" in one]:
            self.revisit()  # further names may match
            waits = [
                term for term in self.terms("agents by stalled wait") if isinstance(term, tuple)
            ]
            names |= {name for kind, name in waits if kind == "llm" and fnmatchcase(name, pattern)}
        terms = [("llm", name) for name in sorted(names)]
        found = [one for term in terms for one in self.find("agents by stalled wait", term)]
        return list({one.key: one for one in found}.values())

    def evaluate(self, ref: Ref) -> Any:
        """Return the entity and begin its evaluation: further reads are noted for it."""
        for term in self._reads.pop(ref, ()):
            readers = self._readers[term]
            readers.discard(ref)
            if not readers:
                del self._readers[term]
        self._reader = ref
        self.revisited.discard(ref)
        return self._look(*ref)

    def revisit(self) -> None:
        """Have the entity that is evaluated evaluated again, even if nothing changes."""
        if self._reader is not None:
            self.revisited.add(self._reader)

    def evaluated(self) -> None:
        """End the evaluation: reads are noted for no entity."""
        self._reader = None

    def _rope(self, section: str) -> Rope:
        return self.snapshot.sections[section].rope

    def fragment(self, section: str, key: str) -> Fragment | None:
        """Return the entity as it was published, None if there is none; no read is noted."""
        return self.snapshot.sections[section].rope.get(key)

    def _look(self, section: str, key: str) -> Any:
        fragment = self.fragment(section, key)
        return fragment and fragment.entity

    def _note(self, term: Term) -> None:
        if self._reader is not None:
            self._readers[term].add(self._reader)
            self._reads.setdefault(self._reader, set()).add(term)

    def _enter(self, section: str, key: str, entity: Any) -> list[Term]:
        terms: list[Term] = [(section, key)]
        for name, index in self._indexes.items():
            if index.section == section:
                terms += [(name, term) for term in index.update(key, entity)]
        return terms
