"""A state machine of the store: whatever sources do, the document is what their parts say.

The model knows nothing of flushes, groups that are dirty, ropes or timers: it keeps the list of
parts and the history of confirmations, and computes everything anew from them.
"""

import asyncio
import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.collector import Put
from telemetron.document import (
    Cooldowns,
    Instance,
    Live,
    Member,
    ModelDeployment,
    Outcomes,
    PartitionLag,
    Pod,
    Queue,
    State,
    Task,
    Wait,
    Workload,
)
from telemetron.store.agents import merge_agents
from telemetron.store.part import Part
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Publication, Store
from telemetron.testing import FakeClock

SECTIONS = ("agents", "litellm", "queues", "workload")
SOURCES = ("alpha", "beta", "gamma")
SCOPES = ("", "one", "two")
PROMISE = 8.0
NOON = datetime(2029, 12, 31, 12, tzinfo=UTC)
# Every field that the documentation calls a measure; no two types use one name differently.
MEASURES = {
    *("tpm", "rpm", "failed_rpm", "refused_rpm", "latency_seconds", "credits", "spend"),
    *("depth", "depth_exact", "lag", "unacknowledged", "oldest_submitted_at", "produced_at"),
    *("consumed_at", "lagging", "tasks", "measured_at", "cpu", "memory", "network_in"),
    *("network_out", "progressed_at", "least_progressed_at", "outcomes", "entities", "count"),
}

small = st.integers(0, 2)
hours = st.builds(lambda n: NOON + timedelta(hours=n), small)
ids = st.sampled_from(["a", "b", "c"])
maybe = st.none


# what sources put: of every type some fields of state, some measures

tasks = st.builds(
    Task,
    id=ids,
    status=st.sampled_from(["running", "waiting"]),
    started_on=maybe() | hours,
    progressed_at=maybe() | hours,
    stalled=maybe() | st.booleans(),
    step=maybe() | st.just("a step"),
    waits=st.lists(st.builds(Wait, kind=st.just("llm"), since=hours), max_size=1),
)
instances = st.builds(
    Instance,
    id=ids,
    status=st.sampled_from(["active", "idle", "silent", "declared"]),
    pod_id=maybe() | st.sampled_from(["pod-1", "pod-2"]),
    workload=maybe() | st.just("k/n/Deployment/d"),
    max_parallel_invocations=maybe() | st.integers(1, 3),
    outcomes=maybe() | st.builds(Outcomes, completed=small),
)
agents = st.builds(
    AgentPart,
    namespace=maybe() | st.sampled_from(["n1", "n2"]),
    description=maybe() | st.sampled_from(["plans", "writes"]),
    max_parallel_invocations=maybe() | st.integers(1, 3),
    models=st.lists(ids, max_size=2),
    instance=maybe() | instances,
    since=maybe() | hours,
    tasks=st.lists(tasks, max_size=2),
    task_count=small,
)
litellm = st.builds(
    ModelDeployment,
    id=ids,
    model=st.sampled_from(["m1", "m2"]),
    status=st.sampled_from(["healthy", "unknown"]),
    cooldowns=st.builds(Cooldowns, count=small),
    tpm=maybe() | st.sampled_from([0.0, 1.5]),
    spend=maybe() | st.sampled_from([0.25, 2.0]),
    measured_at=maybe() | hours,
)
queues = st.builds(
    Queue,
    name=st.sampled_from(["q", "q/2"]),
    consumer_group=maybe() | st.just("workers"),
    consumers=maybe() | small,
    members=st.lists(st.builds(Member, client_id=ids), max_size=2),
    depth=maybe() | small,
    lagging=st.lists(st.builds(PartitionLag, partition=small, lag=small), max_size=2),
    measured_at=maybe() | hours,
)
workloads = st.builds(
    Workload,
    deployment_name=st.sampled_from(["d", "d~2"]),
    namespace=st.just("n1"),
    kind=st.just("Deployment"),
    live=maybe() | st.builds(Live, ready=maybe() | small),
    pods=st.lists(
        st.builds(
            Pod,
            pod_id=ids,
            status=st.just("Running"),
            ready=maybe() | st.booleans(),
            cpu=maybe() | st.sampled_from([0.0, 0.5]),
        ),
        max_size=2,
    ),
)
values = {"agents": agents, "litellm": litellm, "queues": queues, "workload": workloads}
measured = {
    "agents": lambda part, at: replace(
        part, tasks=[replace(task, progressed_at=at) for task in part.tasks]
    ),
    "litellm": lambda part, at: replace(part, tpm=7.0, measured_at=at),
    "queues": lambda part, at: replace(part, depth=7, lagging=[], measured_at=at),
    "workload": lambda part, at: replace(
        part, pods=[replace(pod, memory=7.0, measured_at=at) for pod in part.pods]
    ),
}
groups = st.sampled_from(["a", "b", "a\x00"])  # agents: the last has the first one's name
puts = st.sampled_from(SECTIONS).flatmap(
    lambda section: st.builds(Put, st.just(section), groups, ids, values[section])
)
# What is not refused, but does not stay what it was; and what is refused.
AMENDED = [
    ("litellm", ModelDeployment(id="a", model="m", tpm=math.nan), {"tpm": None}),
    ("litellm", ModelDeployment(id="a", model="m\x07\u202e1"), {"model": "m1"}),
    (
        "litellm",
        ModelDeployment(id="b", model="m", measured_at=datetime(2030, 1, 1, tzinfo=UTC)),
        {},
    ),
    (
        "litellm",
        ModelDeployment(
            id="b", model="m", status_since=NOON.astimezone(timezone(timedelta(hours=9)))
        ),
        {"status_since": NOON},
    ),
    ("queues", Queue(name="q", updated_at=NOON), {"updated_at": Queue(name="q").updated_at}),
    ("queues", Queue(name="x" * 5000), {"name": "x" * 4095 + "…"}),
]
NONSENSE = [
    ("litellm", ModelDeployment(id=5, model="m")),
    ("litellm", ModelDeployment(id="a", model="m", status_since=datetime(2030, 1, 1))),  # noqa: DTZ001
    ("queues", Queue(name="q", members=[object()])),
    ("queues", Queue(name="q", members=[Member(client_id="x")] * 17)),
    ("queues", Queue(name="\ud800")),
    ("workload", {"deployment_name": "d"}),
    ("agents", AgentPart(models="many")),
    ("agents", None),
    ("nowhere", Queue(name="q")),
]


class Model:
    """The parts of one source, and how it fares."""

    def __init__(self, name: str, now: datetime) -> None:
        self.name = name
        self.parts: dict[tuple[str, str], Part] = {}
        self.status = "off"
        self.since = now
        self.max_age: float | None = None
        self.patience = 0.0
        self.running = self.complete = False
        self.scopes: dict[str, tuple[float, datetime | None]] = {}
        self.in_trouble: set[str] = set()
        self.last_ok_at: datetime | None = None
        self.problems: dict[tuple[str, str], tuple[str, str, datetime]] = {}

    def report(self, kind: str, what: str, scope: str, reason: str, now: datetime) -> None:
        old = self.problems.get((kind, what))
        since = old[2] if old and old[1] == reason else now
        self.problems[kind, what] = scope, reason, since

    def deadlines(self) -> list[float]:
        return [deadline for deadline, _ in self.scopes.values()] or [self.patience]

    def judge(self, elapsed: float, now: datetime) -> None:
        confirmed = [at for _, at in self.scopes.values()]
        if not self.running:
            status = "failing" if ("failure", "") in self.problems else "off"
        elif min(self.deadlines()) <= elapsed:
            status = "stale"
            late = [scope for scope, (deadline, _) in self.scopes.items() if deadline <= elapsed]
            for scope in late:
                if ("trouble", scope) not in self.problems:
                    self.report("trouble", scope, scope, "Unconfirmed", now)
            if not late and ("failure", "") not in self.problems:
                self.report("failure", "", "", "Unconfirmed", now)
        else:
            self.complete = self.complete or (bool(confirmed) and None not in confirmed)
            if not self.complete:
                status = "starting"
            elif ("failure", "") in self.problems or self.in_trouble:
                status = "degraded"
            else:
                status = "ok"
        if status != self.status:
            self.status, self.since = status, now
        good = confirmed and None not in confirmed and status not in ("ok", "off")
        self.last_ok_at = min(confirmed) if good else None

    def row(self, entities: int) -> dict[str, Any]:
        problems = [
            {"reason": reason, "scope": scope, "since": since if reason != "DuplicateKey" else NOON}
            for scope, reason, since in self.problems.values()
        ]
        row = msgspec.to_builtins(
            {
                "key": self.name,
                "collector": "test",
                "status": self.status,
                "since": self.since,
                "address": None,
                "max_age_seconds": self.max_age,
                "last_ok_at": self.last_ok_at,
                "entities": entities,
                "problems": problems,
                "truncated": None,
            }
        )
        return in_order(row)


def in_order(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose problems can be compared."""
    row["problems"].sort(key=lambda p: (p["scope"], p["reason"], p["since"]))
    return row


def claimed(parts: list[Part]) -> list[Any]:
    """The entities that one group's parts claim, whichever of them are shown."""
    parts = sorted(parts, key=lambda part: (part.source, part.id))
    if parts[0].section == "agents":
        return list(merge_agents(parts))
    fields = {
        "litellm": ("id",),
        "queues": ("name", "consumer_group"),
        "workload": ("namespace", "kind", "deployment_name"),
    }[parts[0].section]
    entities = []
    for part in parts:
        names = [part.source, *(getattr(part.value, field) for field in fields)]
        escaped = ["-" if n is None else n.replace("~", "~0").replace("/", "~1") for n in names]
        entities.append(replace(part.value, key="/".join(escaped), source=part.source))
    return entities


def expected(
    models: dict[str, Model],
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str, str], None]]:
    """Section → key → entity; and (source, section, group) where a claim is lost."""
    members: dict[tuple[str, str], list[Part]] = defaultdict(list)
    for model in models.values():
        for part in model.parts.values():
            members[part.section, part.group].append(part)
    shown: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    lost: dict[tuple[str, str, str], None] = {}
    for (section, group), parts in sorted(members.items()):
        for entity in claimed(parts):
            if entity.key in shown[section]:
                lost.update(dict.fromkeys((part.source, section, group) for part in parts))
            else:
                shown[section][entity.key] = entity
    return shown, lost


def stripped(value: Any) -> Any:
    """A decoded entity without its measures and `updated_at`."""
    if isinstance(value, list):
        return [stripped(item) for item in value]
    if isinstance(value, dict):
        left_out = MEASURES | {"updated_at"}
        return {name: stripped(item) for name, item in value.items() if name not in left_out}
    return value


def without_stamps(value: Any) -> Any:
    if isinstance(value, list):
        return [without_stamps(item) for item in value]
    if isinstance(value, dict):
        return {n: without_stamps(item) for n, item in value.items() if n != "updated_at"}
    return value


def stamps(entity: dict[str, Any]) -> set[str]:
    """Every `updated_at` of an entity."""
    inner = [entity.get("activity"), entity.get("live")]
    return {entity["updated_at"], *(one["updated_at"] for one in inner if one)}


def text_of(snapshot: Snapshot) -> bytes:
    return b"".join(snapshot.chunks(SECTIONS))


class StoreMachine(RuleBasedStateMachine):
    """Sources do what they like; now and then the store is flushed and compared."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.elapsed = 0.0
        self.store = Store("test", self.clock, chunk_bytes=1500)
        self.published: list[tuple[Publication, datetime]] = []
        self.store.watchers.append(lambda p: self.published.append((p, self.clock.now())))
        self.models: dict[str, Model] = {}
        self.touched: set[str] = set()
        self.kept: list[tuple[Snapshot, bytes]] = []
        self.last = self.store.snapshot

    def teardown(self) -> None:
        try:
            self.compare()
        finally:
            self.loop.close()

    @initialize()
    def add_sources(self) -> None:
        for name in SOURCES:
            self.store.add(name, "test")
            self.models[name] = Model(name, self.clock.now())
            self.start(name)
        self.compare()

    def judge(self, name: str) -> None:
        self.touched.add(name)
        self.models[name].judge(self.elapsed, self.clock.now())

    def keep(self, name: str, put: Put, scope: str, value: Any) -> None:
        part = Part(name, put.section, put.group, put.id, scope, value)
        self.models[name].parts[put.section, put.id] = part
        self.models[name].problems.pop(("part", f"{put.section} {put.id}"), None)
        self.touched.add(name)

    # parts

    @rule(name=st.sampled_from(SOURCES), put=puts, scope=st.sampled_from(SCOPES))
    def put(self, name: str, put: Put, scope: str) -> None:
        self.store.put(self.store.sources[name], *put, scope)
        self.keep(name, put, scope, put.part)

    @rule(name=st.sampled_from(SOURCES), one=st.sampled_from(AMENDED), id=ids, group=groups)
    def put_amended(self, name: str, one: Any, id: str, group: str) -> None:
        section, value, changes = one
        put = Put(section, group, id, value)
        self.store.put(self.store.sources[name], *put)
        self.keep(name, put, "", replace(value, **changes))

    @rule(name=st.sampled_from(SOURCES), one=st.sampled_from(NONSENSE), id=ids)
    def put_nonsense(self, name: str, one: Any, id: str) -> None:
        section, value = one
        self.store.put(self.store.sources[name], section, "a", id, value, "one")
        self.models[name].report("part", f"{section} {id}", "one", "Refused", self.clock.now())
        self.touched.add(name)

    @rule(name=st.sampled_from(SOURCES), id=st.sampled_from([5, None, ("a",)]))
    def put_under_nonsense(self, name: str, id: Any) -> None:
        self.store.put(self.store.sources[name], "queues", "a", id, Queue(name="q"))
        self.models[name].report("part", f"queues {id}", "", "Refused", self.clock.now())
        self.touched.add(name)

    @precondition(lambda self: any(model.parts for model in self.models.values()))
    @rule(data=st.data(), again=st.booleans())
    def put_measures(self, data: st.DataObject, again: bool) -> None:
        name = data.draw(st.sampled_from([n for n in SOURCES if self.models[n].parts]))
        part = data.draw(st.sampled_from(list(self.models[name].parts.values())))
        value = part.value if again else measured[part.section](part.value, NOON)
        put = Put(part.section, part.group, part.id, value)
        self.store.put(self.store.sources[name], *put, part.scope)
        self.keep(name, put, part.scope, value)

    @rule(name=st.sampled_from(SOURCES), section=st.sampled_from(SECTIONS), id=ids)
    def remove(self, name: str, section: str, id: str) -> None:
        self.store.remove(self.store.sources[name], section, id)
        self.models[name].parts.pop((section, id), None)
        self.models[name].problems.pop(("part", f"{section} {id}"), None)
        self.touched.add(name)

    @rule(
        name=st.sampled_from(SOURCES),
        scope=st.sampled_from(SCOPES),
        some=st.lists(puts, max_size=6, unique_by=lambda put: (put.section, put.id)),
        bad=st.lists(st.sampled_from(NONSENSE), max_size=1),
    )
    def replace(self, name: str, scope: str, some: list[Put], bad: list[Any]) -> None:
        nonsense = [Put(section, "a", "bad", value) for section, value in bad]
        source = self.store.sources[name]
        self.loop.run_until_complete(self.store.replace(source, [*some, *nonsense], scope))
        model = self.models[name]
        listed = {(put.section, put.id) for put in (*some, *nonsense)}
        for at in [at for at, part in model.parts.items() if part.scope == scope]:
            if at not in listed:
                self.remove(name, *at)
        for kind, what in list(model.problems):
            gone = kind == "part" and model.problems[kind, what][0] == scope
            if gone and what not in {f"{put.section} {put.id}" for put in nonsense}:
                del model.problems[kind, what]
        for put in some:
            self.keep(name, put, scope, put.part)
        for put in nonsense:
            model.report("part", f"{put.section} bad", scope, "Refused", self.clock.now())
        self.confirmed(name, scope, None)

    # how sources fare

    @rule(name=st.sampled_from(SOURCES), scope=st.sampled_from(SCOPES), sure=st.booleans())
    def confirm(self, name: str, scope: str, sure: bool) -> None:
        reason = None if sure else "Forbidden"
        self.store.sources[name].confirm(scope, reason=reason, message="not permitted")
        self.confirmed(name, scope, reason)

    def confirmed(self, name: str, scope: str, reason: str | None) -> None:
        model, now = self.models[name], self.clock.now()
        model.scopes[scope] = self.elapsed + PROMISE, now
        model.in_trouble.discard(scope)
        if reason:
            model.report("trouble", scope, scope, reason, now)
        else:
            model.problems.pop(("trouble", scope), None)
        if model.running:
            model.problems.pop(("failure", ""), None)
        self.judge(name)

    @rule(name=st.sampled_from(SOURCES), scope=st.sampled_from(SCOPES))
    def trouble(self, name: str, scope: str) -> None:
        self.store.sources[name].trouble(scope, "Timeout", "no answer")
        model = self.models[name]
        model.scopes.setdefault(scope, (self.elapsed + PROMISE, None))
        model.in_trouble.add(scope)
        model.report("trouble", scope, scope, "Timeout", self.clock.now())
        self.judge(name)

    @rule(name=st.sampled_from(SOURCES))
    def fail(self, name: str) -> None:
        self.store.sources[name].fail("Crashed", "it crashed")
        self.models[name].running = False
        self.models[name].report("failure", "", "", "Crashed", self.clock.now())
        self.judge(name)

    @rule(name=st.sampled_from(SOURCES))
    def start(self, name: str) -> None:
        self.store.sources[name].start(PROMISE)
        model = self.models[name]
        model.running, model.max_age, model.patience = True, PROMISE, self.elapsed + PROMISE
        self.judge(name)

    @rule(quarters=st.sampled_from([0, 1, 3, 20, 40]))
    def advance(self, quarters: int) -> None:
        until = self.elapsed + quarters / 4
        self.clock.advance(quarters / 4)
        ahead = {at for model in self.models.values() for at in model.deadlines()}
        start = self.clock.now() - timedelta(seconds=until)
        for at in [*sorted(at for at in ahead if self.elapsed < at <= until), until]:
            for model in self.models.values():
                model.judge(at, start + timedelta(seconds=at))
        self.elapsed = until

    # what is published

    @rule()
    def flush(self) -> None:
        self.compare()

    def compare(self) -> None:
        self.store.flush()
        shown, lost = expected(self.models)
        self.blame(lost)
        self.compare_publications()
        document = msgspec.json.decode(text_of(self.store.snapshot))
        for section in SECTIONS:
            assert [entity["key"] for entity in document[section]] == sorted(shown[section])
            for entity in document[section]:
                content = msgspec.to_builtins(shown[section][entity["key"]])
                assert without_stamps(entity) == without_stamps(content)
        self.compare_rows(document["sources"], shown)
        for snapshot, content in self.kept:
            assert text_of(snapshot) == content
        self.touched.clear()

    def blame(self, lost: dict[tuple[str, str, str], None]) -> None:
        for name, model in self.models.items():
            mine = {f"{section} {group}" for source, section, group in lost if source == name}
            for kind, what in list(model.problems):
                if kind == "group" and what not in mine:
                    del model.problems[kind, what]
            for what in mine:
                model.report("group", what, "", "DuplicateKey", self.clock.now())

    def compare_rows(self, rows: list[dict[str, Any]], shown: dict[str, dict[str, Any]]) -> None:
        entities = [entity for section in shown.values() for entity in section.values()]
        for row, (name, model) in zip(rows, sorted(self.models.items()), strict=True):
            order = [(p["scope"], p["reason"], p["message"]) for p in row["problems"]]
            assert order == sorted(order)
            assert all(message and message.isprintable() for _, _, message in order)
            for problem in row["problems"]:
                del problem["message"]
                if problem["reason"] == "DuplicateKey":  # arises in a flush: the model has none
                    problem["since"] = msgspec.to_builtins(NOON)
            known = [
                name in getattr(one, "sources", [getattr(one, "source", "")]) for one in entities
            ]
            assert in_order(row) == model.row(sum(known))
            if name not in self.touched:
                assert self.store.sources[name].parts == model.parts

    def compare_publications(self) -> None:
        """Each against the one before it."""
        for publication, at in self.published:
            self.compare_publication(self.last, publication, at)
            self.last = publication.snapshot
        self.published.clear()

    def compare_publication(self, before: Snapshot, publication: Publication, at: datetime) -> None:
        now = publication.snapshot
        old, new = (msgspec.json.decode(text_of(one)) for one in (before, now))
        msgspec.json.decode(text_of(now), type=State)
        self.keep_some(now)
        assert now.change.revision == before.change.revision + 1
        assert now.change.at == at
        changed: dict[str, dict[str, bool]] = {}
        for section in ("sources", *SECTIONS):
            was = {entity["key"]: entity for entity in old[section]}
            is_ = {entity["key"]: entity for entity in new[section]}
            assert list(is_) == sorted(is_)
            keys = [key for key in was.keys() | is_.keys() if was.get(key) != is_.get(key)]
            moved = {key: stripped(was.get(key)) != stripped(is_.get(key)) for key in keys}
            if keys:
                changed[section] = moved
            if section != "sources":
                self.compare_stamps(was, is_, moved, at)
                self.compare_isolation(section, publication)
            self.compare_change(before, now, section, moved)
        assert publication.changed == changed
        assert changed, "a revision without a change"

    def compare_stamps(
        self, was: dict[str, Any], is_: dict[str, Any], moved: dict[str, bool], at: datetime
    ) -> None:
        for key, entity in is_.items():
            stamp = msgspec.to_builtins(at) if moved.get(key) else was[key]["updated_at"]
            assert stamps(entity) == {stamp}

    def compare_isolation(self, section: str, publication: Publication) -> None:
        """Agents are shared by their sources; all else belongs to one."""
        if section != "agents":
            for key in publication.changed.get(section, {}):
                assert key.split("/")[0] in self.touched

    def compare_change(
        self, before: Snapshot, now: Snapshot, section: str, moved: dict[str, bool]
    ) -> None:
        """The last change of each section, and of each entity, and of each with its sources."""
        change, old = now.sections[section].change, before.sections[section].change
        assert change.revision == (now.change.revision if moved else old.revision)
        assert change.at == (now.change.at if moved else old.at)
        state = any(moved.values())
        assert change.state_revision == (now.change.revision if state else old.state_revision)
        assert now.change_of([section]) == change | now.sections["sources"].change
        for key in now.sections[section].rope.every_key():
            self.compare_entity(before, now, section, key, moved)
        assert now.change_of([section], "no such key") is None
        assert now.change_of(SECTIONS) == now.change

    def compare_entity(
        self, before: Snapshot, now: Snapshot, section: str, key: str, moved: dict[str, bool]
    ) -> None:
        fragment = now.sections[section].rope.get(key)
        old = before.sections[section].rope.get(key)
        assert now.change_of([section], key) == fragment.change | now.sections["sources"].change
        if key in moved:
            since = now.change.revision if moved[key] else old.change.state_revision
            assert (fragment.change.revision, fragment.change.state_revision) == (
                now.change.revision,
                since,
            )
        else:
            assert fragment is old

    def keep_some(self, snapshot: Snapshot) -> None:
        """Its bytes as they should stay, without a look at what it caches."""
        body = [
            b'"%s":[%s]' % (name.encode(), b",".join(fragment.body for fragment in section.rope))
            for name, section in snapshot.sections.items()
        ]
        head = text_of(snapshot).partition(b'"sources":')[0]
        self.kept = [*self.kept[-3:], (snapshot, head + b",".join(body) + b"}")]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes: add Phase.shrink when it fails
    suppress_health_check=list(HealthCheck),
)
