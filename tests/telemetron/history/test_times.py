"""Property: each change that is shown has the time at which it was published."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.agents import AgentPart
from telemetron.document import KINDS, Instance, Outcomes, PartitionLag, Queue, Task
from telemetron.history import queries
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import milliseconds, parse
from telemetron.history.queries import Asked
from telemetron.history.selection import selection
from telemetron.history.timeline import Timeline
from telemetron.key import escape
from telemetron.store.store import Store
from telemetron.testing import FakeClock

SHAPES = shapes()
START = datetime(2030, 1, 1, tzinfo=UTC)
ABSENT = object()
IDENTITIES = ("id", "pod_id", "partition", "reason")

names = st.sampled_from(["a", "b/c"])
small = st.integers(0, 1)
moves = st.one_of(
    st.tuples(st.just("consumers"), small),
    st.tuples(st.sampled_from(["depth", "consumed_at", "lag of 0", "lag of 1", "no lag"])),
    st.tuples(st.just("step"), names, small),
    st.tuples(st.just("progress"), names),
    st.tuples(st.just("done"), names),
    st.tuples(st.just("outcomes")),
    st.tuples(st.just("silent"), st.booleans()),
    st.tuples(st.just("queue gone")),
    st.tuples(st.just("agent gone")),
)
ticks = st.sampled_from([0.0, 0.0, 0.5, 3.0, 12.0, 61.0])


class System:
    """A store with its timeline, and a model: the whole document at each publication."""

    def __init__(self) -> None:
        self.clock = FakeClock(START)
        self.store = Store("test", self.clock)
        self.line = Timeline(SHAPES, self.store.snapshot, HistoryLimits(), lambda name: ())
        self.store.watchers.append(self.published)
        self.source = self.store.add("test", "test")
        self.places = [str(self.line.tip)]
        self.published_at: list[tuple[int, datetime, dict[Any, Any]]] = []
        self.count = 0
        self.queue: dict[str, Any] = {}
        self.lags: dict[int, int] = {}
        self.agent: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.store.flush()

    def published(self, publication: Any) -> None:
        for _ in self.line.record(publication, self.clock.monotonic()):
            pass
        entities = {
            (section, key): msgspec.json.decode(fragment.body)
            for section, face in self.store.snapshot.sections.items()
            for key, fragment in zip(face.rope.every_key(), face.rope, strict=True)
        }
        revision = self.store.snapshot.change.revision
        self.published_at.append((revision, self.clock.now(), entities))
        self.places.append(str(self.line.tip))

    def close(self) -> None:
        self.line.close()

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for _ in self.line.record_due(self.clock.monotonic(), milliseconds(self.clock.now())):
            pass
        self.places.append(str(self.line.tip))

    def move(self, what: str, *arguments: Any) -> None:
        """One change; each measure gets a value that it never had, or is recorded in between."""
        if what == "no lag":
            self.tick(61)
        self.count += 1
        when = START + timedelta(days=1, seconds=self.count)
        if what == "consumers":
            self.queue["consumers"] = arguments[0]
        elif what == "depth":
            self.queue["depth"] = self.count
        elif what == "consumed_at":
            self.queue["consumed_at"] = when
        elif what.startswith("lag of"):
            self.lags[int(what[-1])] = self.count
        elif what == "no lag":
            self.lags.clear()
        elif what == "step":
            self.tasks.setdefault(arguments[0], {})["step"] = f"{arguments[1]}"
        elif what == "progress":
            self.tasks.setdefault(arguments[0], {})["progressed_at"] = when
        elif what == "done":
            self.tasks.pop(arguments[0], None)
        elif what == "outcomes":
            self.agent["outcomes"] = Outcomes(completed=self.count)
        elif what == "silent":
            self.agent["status"] = "silent" if arguments[0] else "active"
        self.show(what)
        if what == "no lag":
            self.tick(61)

    def show(self, what: str) -> None:
        if what == "queue gone":
            self.store.remove(self.source, "queues", "q")
        elif what == "agent gone":
            self.store.remove(self.source, "agents", "i")
        elif what in ("consumers", "depth", "consumed_at") or "lag" in what:
            lags = [PartitionLag(partition=n, lag=lag) for n, lag in sorted(self.lags.items())]
            part = Queue(name="q", lagging=lags, **self.queue)
            self.store.put(self.source, "queues", "q", "q", part)
        else:
            tasks = [Task(id=id, **task) for id, task in self.tasks.items()]
            instance = Instance(id="i", **{"status": "active", **self.agent})
            agent = AgentPart(instance=instance, tasks=tasks)
            self.store.put(self.source, "agents", "g", "i", agent)
        self.store.flush()

    def changes(self, **asked: Any) -> list[dict[str, Any]]:
        body = queries.changes(
            self.line, Asked(**asked, kinds=KINDS, limit=1000), self.clock.now()
        ).body
        return msgspec.json.decode(body)["changes"]

    # the model

    def time_of(self, id: Any, path: list[str], word: str, value: Any, until: int) -> Any:
        """When what is at this path last became what it is; None: it never changed."""
        then: Any = None
        before: Any = ABSENT
        for revision, at, entities in self.published_at:
            now = at_path(entities[id], path) if id in entities else ABSENT
            became = {
                "new": now != before and now == value,
                "added": now not in (ABSENT, ()) and before in (ABSENT, ()),
                "removed": now == (() if path else ABSENT) and before != now,
            }
            if revision <= until and became[word]:
                then = at
            before = now
        return then


def at_path(value: Any, path: list[str]) -> Any:
    """What is there; an empty tuple: nothing."""
    for name in path:
        if isinstance(value, dict):
            value = value.get(name, ())
        elif isinstance(value, list):
            value = next((item for item in value if _name(item) == name), ())
        else:
            return ()
    return value


def _name(item: dict[str, Any]) -> str:
    return escape(str(next(item[one] for one in IDENTITIES if one in item)))


def is_measure(path: list[str]) -> bool:
    measures = {"depth", "lag", "consumed_at", "lagging", "outcomes"}
    return bool(measures.intersection(path)) or path[-1].endswith(("progressed_at", "entities"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(moves, ticks), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
    st.sampled_from(["none", "levels", "all"]),
)
def test_every_change_has_its_time_of_publication(steps, windows, measures):
    with closing(System()) as system:
        play(system, steps)
        look(system, windows, measures)


def play(system: System, steps: Any) -> None:
    for move, seconds in steps:
        system.move(*move)
        system.tick(seconds)


def look(system: System, windows: Any, measures: str) -> None:
    """Ask for changes and histories, and check the time of each change."""
    last = len(system.places) - 1
    for one, other in [*windows, (0, 1)]:
        since, until = sorted((round(one * last), round(other * last)))
        asked = {"since": system.places[since], "until": system.places[until]}
        asked["sections"] = ("queues", "agents")  # counts of entities come back to what they were
        for change in system.changes(**asked, measures=measures):
            check(system, change, asked["until"])
    for id in (("queues", "test/q/-"), ("agents", "-/g")):
        try:
            asked = selection(measures, KINDS)
            body = queries.entity_history(system.line, id, None, asked, 1000, system.clock.now())
        except LookupError:
            continue
        for change in msgspec.json.decode(body)["changes"]:
            check(system, change | {"section": id[0], "key": id[1]}, change["place"])


def check(system: System, change: dict[str, Any], until: str) -> None:
    id, end = (change["section"], change["key"]), parse(until, START).revision
    if "fields" not in change:
        at = system.time_of(id, [], change["change"], None, end)
        assert (time(change["at"]), change["measured_at"]) == (at, None)
        return
    times: dict[bool, list[datetime]] = {True: [], False: []}
    for text, one in change["fields"].items():
        path = text.split("/")
        word = next(word for word in ("new", "added", "removed") if word in one)
        times[is_measure(path)].append(system.time_of(id, path, word, one.get("new"), end))
    measured = max(times[True], default=None)
    expected = max(times[False], default=measured), measured
    assert (time(change["at"]), time(change["measured_at"])) == expected, (change, expected)


def time(text: str | None) -> datetime | None:
    return text and datetime.fromisoformat(text)
