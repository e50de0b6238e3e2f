"""The view: entities as rules see them, found by the names that they refer to.

It notes what each evaluation has read, so that an entity is evaluated again if, and only if, it or
something that it was judged by has changed.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, KeysView, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar, cast

from telemetron.diagnosis.trend import Ref, Streaks, Trends
from telemetron.store.rope import Fragment, Rope
from telemetron.store.snapshot import Snapshot

Term = tuple[str, Hashable]
"""Name of an index, and what is looked up in it."""

NOTHING: dict[Hashable, None] = {}
FACTS = "facts"

T = TypeVar("T")


class Fact(NamedTuple):
    """What a function finds in the view, for all entities that ask for it."""

    function: Callable[..., Any]
    args: tuple[Hashable, ...]


Reader = Ref | Fact


class Index:
    """The entities of one section that have a term.

    Its sets are dictionaries: Python exempts them from garbage collections, which tens of thousands
    of sets would make take longer.
    """

    def __init__(self, section: str, terms: Callable[[Any], Iterable[Hashable]]) -> None:
        self.section = section
        self._terms = terms
        self._of: dict[str, dict[Hashable, None]] = {}
        self._keys: dict[Hashable, dict[str, None]] = {}
        self._sorted: dict[Hashable, list[str]] = {}
        """Of the terms that were looked up since their keys changed."""

    def update(self, key: str, entity: Any) -> KeysView[Hashable]:
        """Enter an entity, None if it is gone; return the terms that it has or had."""
        old = self._of.get(key, NOTHING)
        new = dict.fromkeys(self._terms(entity)) if entity is not None else NOTHING
        if old == new:
            return new.keys()
        for term in old.keys() - new.keys():
            self._sorted.pop(term, None)
            self._keys[term].pop(key, None)
            if not self._keys[term]:
                del self._keys[term]
        for term in new.keys() - old.keys():
            self._sorted.pop(term, None)
            self._keys.setdefault(term, {})[key] = None
        if new:
            self._of[key] = new
        else:
            del self._of[key]
        return (old | new).keys()

    def keys(self, term: Hashable) -> Sequence[str]:
        """Return the sorted keys of the entities that have the term."""
        if term not in self._keys:
            return []
        if term not in self._sorted:
            self._sorted[term] = sorted(self._keys[term])
        return self._sorted[term]

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
        self._readers: defaultdict[Term, dict[Reader, None]] = defaultdict(dict)
        self._reads: dict[Reader, dict[Term, None]] = {}
        self._reader: Reader | None = None
        self._facts: dict[Fact, Any] = {}
        self._outdated: dict[Fact, Any] = {}
        """What facts were until something that they had read changed."""
        self._revisited: dict[Reader, None] = {}

    def show(self, snapshot: Snapshot, changed: Iterable[Ref]) -> Iterator[Iterable[Ref]]:
        """Show a snapshot; yield for each changed entity the entities to be evaluated again."""
        self.snapshot = snapshot
        for section, key in changed:
            entity = self._look(section, key)
            if entity is None:
                self._forget_memory(key)
            terms = self._enter(section, key, entity)
            yield (section, key), *self._readers_of(terms)
        yield from self._find_out()

    def _forget_memory(self, key: str) -> None:
        """Forget what is remembered of an entity that is gone."""
        self.autoscaled.discard(key)
        self.homes.pop(key, None)
        self.usual_latency.pop(key, None)

    @property
    def may_change(self) -> bool:
        """Whether there is anything that may change with time only."""
        return bool(self._revisited)

    def revisited(self) -> Iterator[Iterable[Ref]]:
        """Yield the entities that may show a symptom with time only."""
        yield self._entities(self._revisited)
        yield from self._find_out()

    def _find_out(self) -> Iterator[Iterable[Ref]]:
        """Find out outdated facts; yield for each that is another now the entities that read it."""
        while self._outdated:
            fact, old = self._outdated.popitem()
            yield self._readers_of([(FACTS, fact)]) if self._known(fact) != old else ()

    def _readers_of(self, terms: Iterable[Term]) -> list[Ref]:
        """Return the entities that read one of these; facts that do so are outdated."""
        return self._entities([one for term in terms for one in self._readers.get(term, ())])

    def _entities(self, readers: Iterable[Reader]) -> list[Ref]:
        for one in readers:
            if one in self._facts:
                self._outdated.setdefault(one, self._facts.pop(one))
        return [one for one in readers if not isinstance(one, Fact)]

    def fact(self, function: "Callable[..., T]", *args: Hashable) -> T:
        """Return `function(view, *args)`, which is called once for all that ask for it.

        It is called again when something that it has read changes; the readers of the fact are
        evaluated again only if it then returns something else.
        """
        fact = Fact(function, args)
        self._note((FACTS, fact))
        return cast(T, self._known(fact))

    def _known(self, fact: Fact) -> Any:
        if fact not in self._facts:
            self._forget(fact)
            asking, self._reader = self._reader, fact
            try:
                self._facts[fact] = fact.function(self, *fact.args)
            finally:
                self._reader = asking
        return self._facts[fact]

    def get(self, section: str, key: str) -> Any:
        """Return the entity, None if there is none."""
        self._note((section, key))
        return self._look(section, key)

    def find(self, index: str, term: Hashable) -> list[Any]:
        """Return the entities that have the term, by key."""
        self._note((index, term))
        one = self._indexes[index]
        return [found for key in one.keys(term) if (found := self._look(one.section, key))]

    def sample(self, index: str, term: Hashable, most: int) -> list[Any]:
        """Return the entities that have the term, of many only so many, evenly spread by key."""
        self._note((index, term))
        one = self._indexes[index]
        chosen = spread(one.keys(term), most)
        return [found for key in chosen if (found := self._look(one.section, key))]

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
        self._forget(ref)
        self._reader = ref
        return self._look(*ref)

    def _forget(self, reader: Reader) -> None:
        """Forget what it has read."""
        for term in self._reads.pop(reader, ()):
            readers = self._readers[term]
            readers.pop(reader, None)
            if not readers:
                del self._readers[term]
                if term[0] == FACTS:
                    self._drop(cast(Fact, term[1]))
        self._revisited.pop(reader, None)

    def _drop(self, fact: Fact) -> None:
        """Forget a fact that nobody asks for any more."""
        self._facts.pop(fact, None)
        self._outdated.pop(fact, None)
        self._forget(fact)

    def revisit(self) -> None:
        """Have the entity or fact evaluated again, even if nothing changes."""
        if self._reader is not None:
            self._revisited[self._reader] = None

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
            self._readers[term][self._reader] = None
            self._reads.setdefault(self._reader, {})[term] = None

    def _enter(self, section: str, key: str, entity: Any) -> list[Term]:
        terms: list[Term] = [(section, key)]
        for name, index in self._indexes.items():
            if index.section == section:
                terms += [(name, term) for term in index.update(key, entity)]
        return terms


def spread(items: Sequence[T], most: int) -> Sequence[T]:
    """Return all, or of many only so many, evenly spread."""
    if len(items) <= most:
        return items
    return [items[at * len(items) // most] for at in range(most)]
