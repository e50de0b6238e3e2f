"""A state machine: random changes, every answer against a naive list of all snapshots."""

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.document import KINDS, Instance, Outcomes, Pod, Queue, Task, Workload
from telemetron.history import queries
from telemetron.history.archive import Archive, GoneError
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import Place, milliseconds
from telemetron.history.queries import Asked, UnknownKeyError
from telemetron.history.selection import selection
from telemetron.history.timeline import Timeline
from telemetron.store.store import Store
from telemetron.testing import FakeClock

START = datetime(2030, 1, 1, tzinfo=UTC)
FEEDS = {"agents": ("agents",), "things": ("queues", "workload")}
# The first that an item has: instances and tasks have more of these fields.
IDENTITY = ["id", "pod_id", "client_id", "partition", "reason"]

LIMITS = HistoryLimits(
    recent_weight=12, open_weight=7, unwritten_weight=8, keyframe_bytes=500, keyframe_entities=2
)

small = st.integers(0, 2)
maybe = st.none() | small
hours = st.sampled_from([None, START, START + timedelta(hours=1)])
ids = st.sampled_from(["a", "b/c", "d"])
tasks = st.builds(
    Task, id=ids, step=st.sampled_from([None, "x"]), progressed_at=hours, started_on=hours
)
instances = st.builds(
    Instance,
    id=ids,
    status=st.sampled_from(["active", "idle"]),
    outcomes=st.none() | st.builds(Outcomes, completed=small),
)
agents = st.builds(
    AgentPart,
    namespace=st.sampled_from([None, "n"]),
    instance=instances,
    tasks=st.lists(tasks, max_size=3, unique_by=lambda task: task.id),
    task_count=small,
)
queues = st.builds(
    Queue,
    name=st.sampled_from(["q", "r"]),
    consumers=maybe,
    depth=maybe,
    lag=maybe,
    consumed_at=hours,
    partitions=maybe,
)
pods = st.builds(
    Pod,
    pod_id=st.sampled_from(["p1", "p2", "p3"]),
    status=st.sampled_from(["Running", "Failed"]),
    restarts=maybe,
    cpu=st.none() | st.sampled_from([0.5, 1.0]),
)
workloads = st.builds(
    Workload,
    deployment_name=st.sampled_from(["w", "v"]),
    namespace=st.just("n"),
    kind=st.just("Deployment"),
    max_pods=maybe,
    pods=st.lists(pods, max_size=3, unique_by=lambda pod: pod.pod_id),
)


class Kept(NamedTuple):
    """What a naive history keeps: the whole document at each place, and what changed with it."""

    place: Place
    now: float
    at: datetime
    document: dict[str, Any]
    moved: set[tuple[str, str]]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path; items of a list under their identity, where each has its own."""
    if isinstance(value, dict):
        found = {}
        for name, one in value.items():
            found |= flat(one, f"{path}/{name}")
        return found or {path: {}}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        name = next((one for one in IDENTITY if one in value[0]), None)
        named = {item[name]: item for item in value} if name else {}
        if len(named) == len(value):
            found = {}
            for id, item in named.items():
                escaped = str(id).replace("~", "~0").replace("/", "~1")
                found |= flat(item, f"{path}/{escaped}")
            return found
    return {path: value} if value != [] else {}


def state(entity: dict[str, Any], shape: Any) -> dict[str, Any]:
    """Without measures and stamps."""
    kept = {}
    for name, value in entity.items():
        field = shape.get(name)
        if name == "updated_at" or (field and field.measure):
            continue
        if field and field.shape and isinstance(value, dict):
            value = state(value, field.shape)
        elif field and field.shape and isinstance(value, list):
            value = [state(item, field.shape) for item in value]
        kept[name] = value
    return kept


SHAPES = shapes()


def is_apart(entity: dict[str, Any]) -> bool:
    """Whether the items of all its lists can be told apart."""
    lists = (value for value in entity.values() if isinstance(value, list))
    return not any(isinstance(item, dict) for items in lists for item in items)


def states(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Each entity's leaves, without measures."""
    return {
        (section, entity["key"]): flat(state(entity, shape))
        for section, shape in SHAPES.items()
        for entity in document[section]
    }


def moved(change: dict[str, Any], shape: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The leaves that a change takes away, and those it brings."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for path, one in change.get("fields", {}).items():
        for word, leaves in (("old", old), ("removed", old), ("new", new), ("added", new)):
            if word in one:
                leaves |= flat(_bare(one[word]), "/" + path)
    return old, new


def _bare(value: Any) -> Any:
    """An item, or a list of them, as it stands in a state without measures."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        for shape in ITEM_SHAPES:
            if shape.keys() == value.keys():
                return state(value, shape)
    return value


def item_shapes(shape: Any) -> list[Any]:
    found = []
    for field in shape.values():
        if field.shape:
            found += [field.shape, *item_shapes(field.shape)]
    return found


ITEM_SHAPES = [one for shape in SHAPES.values() for one in item_shapes(shape)]


class TimelineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock(START)
        self.kept: list[Kept] = []
        self.lost: list[Kept] = []
        self.file: Archive | None = None
        self.line: Timeline | None = None

    def teardown(self) -> None:
        if self.line:
            self.line.close()
        if self.file:
            self.file.close()
        shutil.rmtree(self.folder)

    @initialize()
    def start(self) -> None:
        self.clock.advance(1)
        self.store = Store("test", self.clock)
        self.line = Timeline(SHAPES, self.store.snapshot, LIMITS, lambda name: FEEDS.get(name, ()))
        snapshot = self.store.snapshot
        started = milliseconds(snapshot.started_at)
        path = str(self.folder / "history.db")
        self.file = Archive(path, "test", snapshot.epoch, started, LIMITS)
        self.line.open_file(self.file)
        self.store.watchers.append(self.published)
        self.unwritten: list[Kept] = []
        self.missed: list[Kept] = []
        self.weight = 0
        self.keep()
        self.write()
        for name in ("agents", "things"):
            self.store.add(name, name).start(1000.0)
        self.store.flush()

    def keep(self) -> None:
        snapshot = self.store.snapshot
        body = b"".join(snapshot.chunks(list(snapshot.sections)))
        document = msgspec.json.decode(body)
        now, place = states(document), self.line.tip
        before = states(self.kept[-1].document) if place.at != (1, 0) else {}
        moved = {id for id in now.keys() | before.keys() if now.get(id) != before.get(id)}
        one = Kept(place, self.clock.monotonic(), self.clock.now(), document, moved)
        self.kept.append(one)
        self.unwritten.append(one)
        self.weight += 1 + len(self.line.recorder.last.entries)

    def published(self, publication: Any) -> None:
        for _ in self.line.record(publication, self.clock.monotonic()):
            pass
        self.keep()

    # what happens

    @rule(id=ids, part=agents)
    def beat(self, id: str, part: AgentPart) -> None:
        self.store.put(self.store.sources["agents"], "agents", "g", id, part)

    @rule(part=queues | workloads)
    def put(self, part: Any) -> None:
        if isinstance(part, Queue):
            self.store.put(self.store.sources["things"], "queues", part.name, part.name, part)
            return
        part = replace(part, pods=sorted(part.pods, key=lambda pod: pod.pod_id))
        name = part.deployment_name
        self.store.put(self.store.sources["things"], "workload", name, name, part)

    @rule(section=st.sampled_from(["agents", "queues", "workload"]), data=st.data())
    def remove(self, section: str, data: Any) -> None:
        for source in self.store.sources.values():
            known = sorted(id for of, id in source.parts if of == section)
            if known:
                self.store.remove(source, section, data.draw(st.sampled_from(known)))
                return

    @rule(name=st.sampled_from(["agents", "things"]), ok=st.booleans())
    def judge(self, name: str, ok: bool) -> None:
        source = self.store.sources[name]
        source.confirm() if ok else source.trouble("", "Unreachable", "no answer")

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule(seconds=st.sampled_from([0.03, 1.0, 9.0, 61.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        tip = self.line.tip
        for _ in self.line.record_due(self.clock.monotonic(), milliseconds(self.clock.now())):
            pass
        if self.line.tip != tip:
            self.keep()

    @rule()
    def write(self) -> None:
        """What was too much to be kept for the file is missing there, but for the last."""
        self.line.write(milliseconds(self.clock.now()))
        if self.weight > LIMITS.unwritten_weight:
            self.missed += self.unwritten[:-1]
        self.unwritten, self.weight = [], 0

    @rule(numbers=st.lists(small, min_size=6, max_size=8), write=st.booleans())
    def churn(self, numbers: list[int], write: bool) -> None:
        """More than is kept for the file."""
        for at, number in enumerate(numbers):
            self.put(Queue(name="q", consumers=3 * at + number))
            self.advance(0.03)
        if write:
            self.write()

    @rule(back=st.sets(ids))
    def restart(self, back: set[str]) -> None:
        """Killed: what is not in the file is lost; some of the instances are seen again."""
        parts = self.store.sources["agents"].parts
        seen = [part for (_, id), part in parts.items() if id in back]
        lost = {one.place for one in [*self.missed, *self.unwritten]}
        self.lost += [one for one in self.kept if one.place in lost]
        self.kept = [one for one in self.kept if one.place not in lost]
        self.store.watchers.clear()
        self.line.close()
        self.file.close()
        self.start()
        for part in seen:
            self.beat(part.id, part.value)
        self.store.flush()
        for one in self.lost[-8:]:
            self.check_time(one.at)
        for one in self.kept[-8:-1]:
            self.check_changes(one, self.kept[-1])

    # what is answered

    def pick(self, data: Any) -> Kept:
        return self.kept[data.draw(st.integers(0, len(self.kept) - 1))]

    @rule(data=st.data())
    def ask_at(self, data: Any) -> None:
        kept = self.pick(data)
        snapshot = queries.snapshot(self.line, str(kept.place), self.clock.now())
        body = b"".join(snapshot.chunks(list(snapshot.sections)))
        document = msgspec.json.decode(body)
        for name in ("id", "epoch", "revision", "started_at"):
            assert document[name] == kept.document[name]
        assert datetime.fromisoformat(document["changed_at"]) == kept.at
        assert states(document) == states(kept.document)
        for section in SHAPES:
            keys = [entity["key"] for entity in document[section]]
            assert keys == [entity["key"] for entity in kept.document[section]]
            stamps = [entity.get("updated_at") for entity in document[section]]
            assert stamps == [entity.get("updated_at") for entity in kept.document[section]]
        for queue in document["queues"]:
            for field, seconds in (("depth", 10), ("consumed_at", 60)):
                assert queue[field] in self.values(kept, queue["key"], field, seconds)

    def values(self, kept: Kept, key: str, field: str, seconds: float) -> list[Any]:
        """Those that a measure had in the time before; at its begin too."""
        values = []
        for one in reversed(self.kept):
            if one.place.epoch != kept.place.epoch or one.place.at > kept.place.at:
                continue
            values += [queue[field] for queue in one.document["queues"] if queue["key"] == key]
            if one.now < kept.now - seconds:
                break
        return values

    @rule(data=st.data())
    def ask_changes(self, data: Any) -> None:
        one, other = self.pick(data), self.pick(data)
        if self.kept.index(one) > self.kept.index(other):
            one, other = other, one
        self.check_changes(one, other)

    def check_changes(self, one: Kept, other: Kept) -> None:
        asked = Asked(str(one.place), str(other.place), measures="none", kinds=KINDS, limit=1000)
        answer = self.changes(asked)
        assert (answer["from"], answer["to"]) == (str(one.place), str(other.place))
        assert self.pages(asked._replace(limit=1)) == answer["changes"]
        same_epoch = one.place.epoch == other.place.epoch
        assert answer["complete"] == same_epoch
        starting = [] if same_epoch else starting_at(one, other)
        assert answer["starting"] == starting
        unsure = {section for name in starting for section in FEEDS[name]}
        if not other.document["sources"]:
            unsure.add("sources")
        self.compare(states(one.document), states(other.document), answer["changes"], unsure)
        self.check_times(one, other, answer["changes"])

    def check_times(self, one: Kept, other: Kept, changes: Any) -> None:
        """Each is a time at which the state of the entity changed, if all in between is kept."""
        start, end = self.kept.index(one), self.kept.index(other)
        between = self.kept[start + 1 : end + 1]
        lost = any(one.place < gone.place < other.place for gone in self.lost)
        for change in changes:
            id = change["section"], change["key"]
            times = {kept.at for kept in between if id in kept.moved}
            at = change["at"] and datetime.fromisoformat(change["at"])
            assert at in times or (at is None and (lost or one.place.epoch != other.place.epoch))
            assert change["measured_at"] is None

    def compare(self, before: Any, after: Any, changes: Any, unsure: Any) -> None:
        expected = {
            id
            for id in before.keys() | after.keys()
            if before.get(id) != after.get(id) and not (id not in after and id[0] in unsure)
        }
        found = {(change["section"], change["key"]): change for change in changes}
        assert found.keys() <= expected
        for id in expected - found.keys():
            assert id[0] in unsure
            assert is_less(before[id], after[id]) or not is_apart(before[id])
        order = [(list(SHAPES).index(section), key) for section, key in found]
        assert order == sorted(order)
        for id, change in found.items():
            if id in before and id in after:
                old, new = moved(change, SHAPES[id[0]])
                old, new = differing(old, new)
                if id[0] in unsure and not (is_apart(before[id]) and is_apart(after[id])):
                    continue
                if id[0] in unsure:
                    # Nothing is told as gone; that is in what was, but not in what is.
                    told = {path: value for path, value in before[id].items() if path in old}
                    assert is_less({**before[id], **new}, after[id])
                    assert told == old
                else:
                    assert (old, new) == differing(before[id], after[id])
            else:
                assert change["change"] == ("added" if id in after else "removed")
                whole = change["new"] if id in after else change["old"]
                shown = flat(state(whole, SHAPES[id[0]]))
                assert shown == (after[id] if id in after else before[id])

    @rule(data=st.data())
    def reconnect(self, data: Any) -> None:
        """A reader that was told all until some place is told the rest, or that it is lost."""
        one = data.draw(st.sampled_from(self.kept + self.lost))
        asked = Asked(str(one.place), measures="none", kinds=KINDS, limit=1000)
        try:
            answer = queries.news(self.line, asked)
        except GoneError:
            assert one in self.lost
            gap = msgspec.json.decode(queries.gap(self.line, "lost", asked.since).body)
            assert (gap["to"], gap["complete"]) == (str(self.line.tip), False)
            return
        assert one in self.kept
        assert answer.to == str(self.line.tip)
        known = states(one.document)
        body = msgspec.json.decode(answer.body) if answer.body else {"changes": []}
        take(known, body["changes"])
        if not body.get("starting"):
            assert known == states(self.kept[-1].document)
        assert not answer.empty or not body["changes"]

    @rule(data=st.data())
    def ask_life(self, data: Any) -> None:
        known = sorted({id for kept in self.kept[-10:] for id in states(kept.document)})
        id = data.draw(st.sampled_from(known))
        # Entities that were there when an epoch ended went without being seen to.
        expected = [str(kept.place) for kept in self.kept if id in kept.moved]
        places: list[str] = []
        before = None
        complete = True
        while True:
            asked = selection("none", KINDS)
            body = queries.entity_history(self.line, id, before, asked, 3, self.clock.now())
            answer = msgspec.json.decode(body)
            places += [change["place"] for change in answer["changes"]]
            complete = complete and answer["complete"]
            if not answer["truncated"]:
                break
            before = answer["changes"][-1]["place"]
        assert places == expected[::-1]
        assert complete == (len({kept.place.epoch for kept in self.kept}) == 1)

    @rule(data=st.data(), seconds=st.sampled_from([-1.0, -0.01, 0.0, 0.01, 1.0]))
    def ask_time(self, data: Any, seconds: float) -> None:
        """The last place by then; none where that is lost, but for the end of an epoch."""
        ones = data.draw(st.sampled_from([self.kept, self.lost or self.kept]))
        at = data.draw(st.sampled_from(ones)).at + timedelta(seconds=seconds)
        self.check_time(at)

    def check_time(self, at: datetime) -> None:
        before = [one for one in self.kept if one.at <= at]
        expected = before[-1] if before else None
        hidden = expected and expected.at < at and self.is_hole(expected, at)
        try:
            found = self.line.resolve(at.isoformat(), self.clock.now())
        except GoneError:
            assert expected is None or hidden
            start = expected.place if expected else self.line.oldest()
            moment, is_cut = queries.start(self.line, at.isoformat(), self.clock.now())
            assert (moment.place, is_cut) == (start, True)
        else:
            assert not hidden
            assert found.place == expected.place

    def is_hole(self, last: Kept, at: datetime) -> bool:
        """Whether something is lost between the last that is kept and the next of its epoch."""
        after = next((one for one in self.kept if one.place > last.place), None)
        return after is not None and any(
            last.place < one.place < after.place
            and one.place.epoch == after.place.epoch
            # When the first that is lost came, only the start of an epoch tells.
            and (one.at <= at or last.place.epoch == after.place.epoch)
            for one in self.lost
        )

    @rule(data=st.data(), measures=st.sampled_from(["none", "levels", "all"]))
    def ask_kinds(self, data: Any, measures: str) -> None:
        """The kinds together are the whole, and nothing is of two kinds."""
        asked = Asked(str(self.pick(data).place), str(self.pick(data).place), measures=measures)
        whole = {**pieces(self.changes(asked._replace(kinds=KINDS, limit=1000)))}
        parts = [pieces(self.changes(asked._replace(kinds=(one,), limit=1000))) for one in KINDS]
        assert sum(map(len, parts)) == len(whole)
        assert {id: change for part in parts for id, change in part.items()} == whole
        # By default the tasks of agents are counted, and all else is as without them.
        default = pieces(self.changes(asked._replace(limit=1000)))
        tasks = {id for id in parts[KINDS.index("tasks")] if id[0] == "agents"}
        assert {id: one for id, one in default.items() if id[2] != "tasks"} == {
            id: one for id, one in whole.items() if id not in tasks
        }
        assert {id[:2] for id in default if id[2] == "tasks"} == {id[:2] for id in tasks}

    @rule(
        data=st.data(),
        sections=st.lists(st.sampled_from(list(SHAPES)), max_size=2, unique=True),
        limit=st.integers(1, 3),
        measures=st.sampled_from(["none", "levels", "all"]),
    )
    def ask_part(self, data: Any, sections: list[str], limit: int, measures: str) -> None:
        """What is asked for in pages, of some sections and of one key, is that of the whole."""
        since, until = str(self.pick(data).place), str(self.pick(data).place)
        whole = self.changes(Asked(since, until, measures=measures, limit=1000))["changes"]
        keys = [None, *(change["key"] for change in whole)]
        key = data.draw(st.sampled_from(keys))
        asked = Asked(since, until, tuple(sections), key, measures, limit=limit)
        expected = [
            change
            for change in whole
            if (not sections or change["section"] in sections) and key in (None, change["key"])
        ]
        try:
            assert self.pages(asked) == expected
        except UnknownKeyError:  # none of these sections had it
            assert (key is not None, expected) == (True, [])

    def pages(self, asked: Asked) -> list[Any]:
        """All changes, asked for page by page."""
        found: list[Any] = []
        while True:
            diff = queries.changes(self.line, asked, self.clock.now())
            answer = msgspec.json.decode(diff.body)
            assert len(answer["changes"]) <= asked.limit
            assert answer["truncated"] == (diff.after is not None)
            found += answer["changes"]
            if not answer["truncated"]:
                return found
            asked = asked._replace(since=answer["from"], until=answer["to"], after=diff.after)

    def changes(self, asked: Asked) -> Any:
        return msgspec.json.decode(queries.changes(self.line, asked, self.clock.now()).body)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def ask_lost(self, data: Any) -> None:
        place = data.draw(st.sampled_from(self.lost)).place
        try:
            queries.snapshot(self.line, str(place), self.clock.now())
        except GoneError:
            return
        raise AssertionError(f"{place} was lost")

    @invariant()
    def knows_its_tip(self) -> None:
        if self.line:
            assert self.line.tip.revision == self.store.snapshot.change.revision


def starting_at(since: Kept, until: Kept) -> list[str]:
    """The sources that had not looked at all; where none has a row yet, those of before."""
    rows = until.document["sources"]
    if not rows:
        return [row["key"] for row in since.document["sources"]]
    return [row["key"] for row in rows if row["status"] != "ok" and row["last_ok_at"] is None]


def is_less(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether nothing but items, or all of a list of values, is gone."""
    return all(path in before for path in after) and all(
        value == before[path] or _is_shorter(before[path], value) for path, value in after.items()
    )


def _is_shorter(before: Any, after: Any) -> bool:
    return isinstance(before, list) and all(item in before for item in after)


def pieces(answer: Any) -> dict[tuple[str, str, str], Any]:
    """Every field, entity and count in an answer, by section, key and path."""
    found = {}
    for change in answer["changes"]:
        id = change["section"], change["key"]
        for path, one in change.get("fields", {}).items():
            found[*id, path] = one
        for name in ("tasks", "new", "old"):
            if name in change:
                found[*id, name] = change[name]
    return found


def take(known: dict[tuple[str, str], dict[str, Any]], changes: Any) -> None:
    """What a reader makes of what it is told."""
    for change in changes:
        id = change["section"], change["key"]
        old, new = moved(change, SHAPES[id[0]])
        if change["change"] == "removed":
            del known[id]
        elif change["change"] == "added":
            known[id] = flat(state(change["new"], SHAPES[id[0]]))
        else:
            known[id] = {k: v for k, v in known[id].items() if k not in old} | new


def differing(old: dict[str, Any], new: dict[str, Any]) -> tuple[Any, Any]:
    """What of each is not so in the other."""
    return (
        {path: value for path, value in old.items() if new.get(path, ()) != value},
        {path: value for path, value in new.items() if old.get(path, ()) != value},
    )


TestTimeline = TimelineMachine.TestCase
TestTimeline.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes: add Phase.shrink when it fails
    suppress_health_check=list(HealthCheck),
)
