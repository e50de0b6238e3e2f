"""The merge of an agent's parts, a pure function."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.document import (
    MAX_ACTIVE_TASKS,
    MAX_ENDED,
    MAX_INSTANCES,
    MAX_NAMES,
    MAX_PROBLEMS,
    MAX_WAITS,
    Agent,
    Ended,
    Failure,
    Instance,
    Problem,
    Task,
    Wait,
)
from telemetron.normal import LARGEST
from telemetron.store.agents import MAX_NAME, merge_agents
from telemetron.store.part import Part

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def minutes(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


RANKS = {"heartbeats": 300, "kubernetes": 200, "configuration": 100}


def part(source: str, id: str = "", name: str = "writer", **fields: Any) -> Part:
    """A part of a source; `merged` gives it an id if it has none."""
    value = AgentPart(**fields)
    return Part(source, "agents", name, id, "", value, RANKS.get(source, 0))


def beat(
    id: str = "i",
    status: str = "active",
    pod_id: str | None = None,
    max_parallel_invocations: int | None = None,
    **fields: Any,
) -> Part:
    """A part of an instance that beats."""
    instance = Instance(
        id=id,
        status=status,
        pod_id=pod_id,
        source="heartbeats",
        max_parallel_invocations=max_parallel_invocations,
    )
    return part("heartbeats", instance=instance, **fields)


def declared(
    pod_id: str,
    workload: str | None = "k/n1/Deployment/w",
    source: str = "kubernetes",
    **fields: Any,
) -> Part:
    instance = Instance(
        id=pod_id, status="declared", pod_id=pod_id, workload=workload, source=source
    )
    return part(source, instance=instance, **fields)


def merged(*parts: Part) -> dict[str, Agent]:
    whole = [one if one.id else replace(one, id=str(at)) for at, one in enumerate(parts)]
    return {agent.key: agent for agent in merge_agents(whole)}


def one(*parts: Part) -> Agent:
    (agent,) = merged(*parts).values()
    return agent


def test_an_instance_that_beats() -> None:
    task = Task(id="t", status="running", progressed_at=NOON)
    agent = one(beat(namespace="n1", tasks=[task], task_count=1, models=["m"], description="d"))
    assert agent.key == "n1/writer"
    assert (agent.name, agent.namespace, agent.status) == ("writer", "n1", "active")
    assert agent.activity.active_task_ids == [task]
    assert agent.activity.task_count == 1
    assert agent.activity.least_progressed_at == NOON
    assert (agent.instance_count, agent.instances[0].id) == (1, "i")
    assert agent.sources == ["heartbeats"]
    assert (agent.models, agent.description, agent.truncated) == (["m"], "d", None)


def test_an_agent_known_only_from_the_configuration() -> None:
    agent = one(part("configuration", max_parallel_invocations=4))
    assert (agent.key, agent.status) == ("-/writer", "declared")
    assert (agent.max_parallel_invocations, agent.instances) == (4, [])
    assert (agent.activity.active_task_ids, agent.activity.least_progressed_at) == ([], None)


# status


@pytest.mark.parametrize(
    ("statuses", "holder", "status"),
    [
        (["idle", "silent"], "silent", "silent"),
        (["idle", "silent"], None, "idle"),
        (["active", "silent"], "silent", "active"),
        (["silent", "silent"], None, "silent"),
        (["idle", "idle"], None, "idle"),
        (["silent", "declared"], "silent", "silent"),
    ],
)
def test_an_idle_agent_has_no_task(statuses: list[str], holder: str | None, status: str) -> None:
    task = Task(id="t", last_known=True)
    parts = [
        beat(str(at), one, tasks=[task] if one == holder else []) for at, one in enumerate(statuses)
    ]
    agent = one(*parts)
    assert agent.status == status
    assert agent.silent_count == statuses.count("silent")


def test_unlisted_waits_count_as_cut() -> None:
    waits = [Wait("llm", str(number)) for number in range(MAX_WAITS)]
    cut = Task(id="a", waits=waits, wait_count=40)
    agent = one(beat(tasks=[cut, Task(id="b", waits=waits[:2], wait_count=2)], task_count=2))
    assert agent.truncated == {"activity.active_task_ids.waits": 42}


def test_counts_of_parts_stop_at_the_largest_integer() -> None:
    parts = [beat(id, task_count=LARGEST, ended_count=LARGEST) for id in "ij"]
    activity = one(*parts).activity
    assert (activity.task_count, activity.ended_count) == (LARGEST, LARGEST)


def test_an_agent_has_the_problems_of_its_parts() -> None:
    problem = Problem("DuplicateInstance", "two of them", NOON)
    agent = one(beat("a", problems=[problem]), beat("b"))
    assert agent.problems == [problem]


# namespaces


def test_one_agent_per_namespace() -> None:
    agents = merged(beat("a", namespace="n1"), beat("b", namespace="n2"))
    assert {key: [i.id for i in agent.instances] for key, agent in agents.items()} == {
        "n1/writer": ["a"],
        "n2/writer": ["b"],
    }


def test_a_part_without_namespace_takes_that_of_its_declared_pod() -> None:
    agents = merged(
        declared("pod-1", namespace="n1"), declared("pod-2", namespace="n2"), beat(pod_id="pod-2")
    )
    assert [i.status for i in agents["n2/writer"].instances] == ["active"]
    assert [i.status for i in agents["n1/writer"].instances] == ["declared"]


def test_a_part_without_namespace_takes_the_only_known_one() -> None:
    assert merged(beat("a", namespace="n1"), beat("b")).keys() == {"n1/writer"}


@pytest.mark.parametrize("pod_id", [None, "pod-3", "pod-0"])
def test_a_part_without_namespace_has_none_if_several_are_possible(pod_id: str | None) -> None:
    agents = merged(
        declared("pod-0", namespace="n1"),
        declared("pod-0", namespace="n2"),
        beat("b", namespace="n2", pod_id="pod-3"),
        beat("c", pod_id=pod_id),
    )
    assert [i.id for i in agents["-/writer"].instances] == ["c"]


# instances


def test_replicas() -> None:
    agent = one(*(beat(id, tasks=[Task(id=f"t-{id}", instance=id)], namespace="n") for id in "cab"))
    assert [i.id for i in agent.instances] == ["a", "b", "c"]
    assert [t.id for t in agent.activity.active_task_ids] == ["t-a", "t-b", "t-c"]
    assert agent.instance_count == agent.activity.task_count == agent.max_parallel_invocations == 3


def test_a_canary_is_two_declarations_of_one_agent() -> None:
    both = {"namespace": "n", "queues": ["q"]}
    stable = part("k", "uid-1", deployment_name="writer", models=["old"], **both)
    canary = part("k", "uid-2", deployment_name="writer-canary", models=["new"], **both)
    agent = one(stable, canary)
    assert (agent.deployment_name, agent.models, agent.queues) == ("writer", ["new", "old"], ["q"])
    assert (agent.status, agent.sources) == ("declared", ["k"])


def test_an_instance_that_beats_takes_the_workload_of_its_declared_pod() -> None:
    agent = one(declared("pod-1", namespace="n"), beat("i", pod_id="pod-1", namespace="n"))
    assert [(i.id, i.workload, i.status) for i in agent.instances] == [
        ("i", "k/n1/Deployment/w", "active")
    ]
    assert agent.sources == ["heartbeats", "kubernetes"]


def test_a_declared_pod_that_never_beat_stays_in_the_list() -> None:
    agent = one(declared("pod-1", namespace="n"), beat("i", pod_id="pod-2", namespace="n"))
    assert [(i.id, i.status) for i in agent.instances] == [("i", "active"), ("pod-1", "declared")]


def test_a_declaration_without_workload_hides_no_workload() -> None:
    agent = one(
        declared("pod-1", namespace="n"),
        declared("pod-1", None, "configuration", namespace="n"),
        beat("i", pod_id="pod-1", namespace="n"),
    )
    assert [i.workload for i in agent.instances] == ["k/n1/Deployment/w"]


def test_the_highest_rank_decides_the_workload_of_a_pod() -> None:
    guess = declared("pod-1", "guess", "configuration", namespace="n")
    agent = one(guess, declared("pod-1", "known", namespace="n"), beat("i", pod_id="pod-1"))
    assert [i.workload for i in agent.instances] == ["known"]


def test_the_source_of_an_instance_cannot_be_forged() -> None:
    agent = one(part("mine", instance=Instance("i", "idle", source="liar")))
    assert agent.instances[0].source == "mine"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["idle", "active", "silent"], "active"),
        (["silent", "idle"], "idle"),
        (["silent", "silent"], "silent"),
        (["silent", "declared"], "silent"),
        (["new in version 2", "declared"], "declared"),
        (["new in version 2"], "new in version 2"),
    ],
)
def test_the_status_is_the_best_of_the_instances(statuses: list[str], status: str) -> None:
    parts = (beat(str(at), status=one) for at, one in enumerate(statuses))
    assert one(*parts).status == status


# scalars and lists


def test_scalars_come_from_the_newest_live_heartbeat() -> None:
    agent = one(
        beat("old", description="old", deployment_name="d", since=NOON),
        beat("new", description="new", since=minutes(1)),
        beat("dead", description="dead", status="silent", since=minutes(9)),
        part("kubernetes", description="k"),
    )
    assert (agent.description, agent.deployment_name) == ("new", "d")


def test_then_from_kubernetes_then_the_configuration_then_silent_instances() -> None:
    silent = beat("dead", description="dead", deployment_name="dead", status="silent")
    configured = part("configuration", description="c", deployment_name="c")
    agent = one(part("kubernetes", description="k"), configured, silent)
    assert (agent.description, agent.deployment_name) == ("k", "c")
    assert one(silent).description == "dead"


def test_the_rank_decides_and_is_lowest_by_default() -> None:
    foreign = part("acme", "a", description="acme", deployment_name="acme")
    agent = one(foreign, part("configuration", description="c"))
    assert (agent.description, agent.deployment_name) == ("c", "acme")
    assert (
        one(replace(foreign, rank=250), part("kubernetes", description="k")).description == "acme"
    )
    assert one(replace(foreign, rank=250), beat(description="b")).description == "b"


def test_lists_are_sorted_unions() -> None:
    agent = one(
        beat("a", models=["z", "a"], queues=["q"]),
        beat("b", models=["a", "m"], status="silent"),
        part("configuration", queues=["p"]),
    )
    assert (agent.models, agent.queues) == (["a", "m", "z"], ["p", "q"])


@pytest.mark.parametrize(
    ("parts", "number"),
    [
        ([beat(max_parallel_invocations=3), beat("b", max_parallel_invocations=2)], 5),
        ([beat(max_parallel_invocations=3), beat("b")], 4),
        ([beat("a", status="silent"), part("kubernetes")], 1),
        (
            [
                beat("a", status="silent", max_parallel_invocations=9),
                part("configuration", max_parallel_invocations=4),
                part("kubernetes", max_parallel_invocations=2),
            ],
            2,
        ),
        ([beat("a", status="silent", tasks=[Task(id="t")], max_parallel_invocations=9)], 9),
        ([declared("p", max_parallel_invocations=7), beat(max_parallel_invocations=2)], 2),
    ],
    ids=["sum", "1 where not said", "nothing known", "as declared", "tasks listed", "beats first"],
)
def test_max_parallel_invocations(parts: list[Part], number: int) -> None:
    assert one(*parts).max_parallel_invocations == number


# tasks


def test_tasks_are_listed_oldest_first() -> None:
    tasks = [
        Task(id="new", started_on=minutes(5)),
        Task(id="unknown"),
        Task(id="b", started_on=NOON),
        Task(id="a", started_on=NOON, instance="j"),
        Task(id="a", started_on=NOON, instance="i"),
    ]
    listed = one(beat("i", tasks=tasks[:2]), beat("j", tasks=tasks[2:])).activity.active_task_ids
    assert [(task.id, task.instance) for task in listed] == [
        ("a", "i"),
        ("a", "j"),
        ("b", None),
        ("new", None),
        ("unknown", None),
    ]


def test_the_least_progress_is_the_oldest() -> None:
    tasks = [Task(id="a", progressed_at=minutes(2)), Task(id="b"), Task(id="c", progressed_at=NOON)]
    assert one(beat(tasks=tasks)).activity.least_progressed_at == NOON


def test_the_last_failure() -> None:
    agent = one(
        beat("a", last_failure=Failure("t1", "E", minutes(1))),
        beat("b", last_failure=Failure("t2", "E", minutes(2)), status="silent"),
        beat("c", last_failure=Failure("t3")),
        beat("d"),
    )
    assert agent.activity.last_failure == Failure("t2", "E", minutes(2))


def test_cut_lists_have_their_full_count() -> None:
    many = [Task(id=f"{n:03}", started_on=minutes(n)) for n in range(MAX_ACTIVE_TASKS)]
    names = [f"{n:03}" for n in range(MAX_NAMES + 2)]
    parts = [beat(f"i{n:03}", status="idle") for n in range(MAX_INSTANCES)]
    agent = one(beat("busy", tasks=many, task_count=1000, models=names, queues=names[1:]), *parts)
    assert agent.truncated == {
        "models": MAX_NAMES + 2,
        "queues": MAX_NAMES + 1,
        "activity.active_task_ids": 1000,
        "instances": MAX_INSTANCES + 1,
    }
    assert agent.models == names[:MAX_NAMES]
    assert agent.activity.task_count == 1000
    assert agent.activity.active_task_ids == many
    assert (len(agent.instances), agent.instance_count) == (MAX_INSTANCES, MAX_INSTANCES + 1)


def test_a_list_of_exactly_the_limit_is_not_cut() -> None:
    many = [Task(id=f"{n:03}") for n in range(MAX_ACTIVE_TASKS)]
    agent = one(beat(tasks=many, task_count=3, models=[str(n) for n in range(MAX_NAMES)]))
    assert (agent.truncated, agent.activity.task_count) == (None, MAX_ACTIVE_TASKS)
    assert one(beat(tasks=many[:2], task_count=3)).truncated == {"activity.active_task_ids": 3}


def test_a_name_is_one_bounded_line() -> None:
    agent = one(replace(beat(), group="a\nb\x00" + "x" * 500))
    assert agent.name.startswith("a bx")
    assert len(agent.name) == MAX_NAME
    assert agent.key == f"-/{agent.name}"


def test_no_parts_are_no_agent() -> None:
    assert list(merge_agents([])) == []


# any parts, in any order

times = st.none() | st.integers(0, 3).map(minutes)
ids = st.sampled_from("abc")
tasks = st.builds(Task, id=ids, started_on=times, progressed_at=times, instance=st.none() | ids)
instances = st.builds(
    Instance,
    id=ids,
    status=st.sampled_from(["active", "idle", "silent", "declared", "other"]),
    pod_id=st.none() | ids,
    workload=st.none() | ids,
    max_parallel_invocations=st.none() | st.integers(1, 3),
    source=ids,
)
values = st.builds(
    AgentPart,
    namespace=st.none() | st.sampled_from(["n1", "n2"]),
    description=st.none() | ids,
    deployment_name=st.none() | ids,
    max_parallel_invocations=st.none() | st.integers(1, 3),
    models=st.lists(ids, max_size=3),
    queues=st.lists(ids, max_size=3),
    instance=st.none() | instances,
    since=times,
    tasks=st.lists(tasks, max_size=3),
    task_count=st.integers(0, 4),
    last_failure=st.none() | st.builds(Failure, task_id=ids, at=times),
)
parts = st.lists(
    st.builds(
        Part,
        source=ids,
        section=st.just("agents"),
        group=st.just("writer"),
        id=ids,
        scope=st.just(""),
        value=values,
        rank=st.sampled_from([0, 100, 200, 300]),
    ),
    max_size=5,
    unique_by=lambda one: (one.source, one.id),
)


@settings(deadline=None)
@given(parts, st.randoms(use_true_random=False))
def test_the_order_of_the_parts_does_not_matter(parts: list[Part], random: Any) -> None:
    shuffled = random.sample(parts, len(parts))
    in_order, other = (
        sorted(map(msgspec.json.encode, merge_agents(some))) for some in (parts, shuffled)
    )
    assert in_order == other


many = [str(number) for number in range(MAX_ACTIVE_TASKS + 1)]
beating = st.builds(
    Instance,
    id=ids,
    status=st.sampled_from(["active", "idle", "silent", "other"]),
    max_parallel_invocations=st.none() | st.integers(2, 3),
    source=st.sampled_from(["heartbeats", "forged"]),
)
alone = st.builds(
    AgentPart,
    namespace=st.none() | ids,
    models=st.lists(ids, max_size=3) | st.just(many),
    queues=st.lists(ids, max_size=3) | st.just(many),
    instance=beating,
    has_all_pods=st.booleans(),
    tasks=st.lists(tasks, max_size=2)
    | st.just([Task(id=one) for one in many])
    | st.just([Task(id="t", wait_count=2)]),
    task_count=st.integers(0, 4),
    ended=st.sampled_from([[], [Ended(id=one) for one in many]]),
    ended_count=st.none() | st.integers(0, 3),
    problems=st.lists(st.sampled_from([Problem(one, "", minutes(0)) for one in many]), max_size=12),
)


@settings(deadline=None)
@given(alone)
@example(AgentPart(instance=Instance("i", "silent", max_parallel_invocations=2)))
def test_a_part_alone_is_shown_as_beside_one_that_says_nothing(value: AgentPart) -> None:
    single = replace(part("heartbeats", "single"), value=value)
    assert merged(single) == merged(single, part("heartbeats", "silent"))


@settings(deadline=None)
@given(parts)
def test_nothing_is_lost_or_invented(parts: list[Part]) -> None:
    agents = list(merge_agents(parts))
    values = [part.value for part in parts]
    assert len({agent.key for agent in agents}) == len(agents)
    listed = [task for agent in agents for task in agent.activity.active_task_ids]
    assert len(listed) == sum(len(value.tasks) for value in values)
    assert sorted({model for agent in agents for model in agent.models}) == sorted(
        {model for value in values for model in value.models}
    )
    beating = [v.instance for v in values if v.instance and v.instance.status != "declared"]
    shown = [one for agent in agents for one in agent.instances if one.status != "declared"]
    assert sorted(map(_plain, shown)) == sorted(map(_plain, beating))
    assert {agent.namespace for agent in agents} >= {v.namespace for v in values if v.namespace}
    for agent in agents:
        assert msgspec.json.decode(msgspec.json.encode(agent), type=Agent) == agent


def _plain(instance: Instance) -> tuple[str, str]:
    return instance.id, instance.status


def pods_of(workload: str, *pods: str, **fields: Any) -> Part:
    return part("kubernetes", workload=workload, pods=list(pods), **fields)


def test_pods_of_a_workload_are_instances_until_they_beat() -> None:
    agent = one(beat("i", pod_id="p1"), pods_of("k/w", "p0", "p1", "p2"), pods_of("k/v", "q"))
    assert agent.instance_count == 4
    found = {one.id: (one.status, one.pod_id, one.workload) for one in agent.instances}
    assert found == {
        "i": ("active", "p1", "k/w"),
        "p0": ("declared", "p0", "k/w"),
        "p2": ("declared", "p2", "k/w"),
        "q": ("declared", "q", "k/v"),
    }


def test_instances_are_counted_however_many_are_listed() -> None:
    names = [f"p{n:04}" for n in range(1000)]
    beats = [beat(f"i{n:04}", pod_id=names[n]) for n in range(300)]
    agent = one(pods_of("k/w", *names), *beats)
    assert (agent.instance_count, agent.truncated) == (1000, {"instances": 1000})
    assert len(agent.instances) == MAX_INSTANCES
    assert {one.workload for one in agent.instances} == {"k/w"}


def test_if_there_are_too_many_instances_each_status_is_listed() -> None:
    silent = [beat(f"a{n:03}", status="silent") for n in range(300)]
    agent = one(*silent, beat("z0"), beat("z1", status="idle"), pods_of("k/w", "z2"))
    listed = [one.id for one in agent.instances]
    assert (len(listed), agent.instance_count) == (MAX_INSTANCES, 303)
    assert listed[-3:] == ["z0", "z1", "z2"]


def test_if_there_are_too_many_instances_the_newest_are_listed() -> None:
    many = [Instance(f"i{n:03}", "active", started_at=minutes(n)) for n in range(300)]
    agent = one(*[part("heartbeats", instance=instance) for instance in many])
    assert [one.id for one in agent.instances] == [f"i{n:03}" for n in range(44, 300)]


FORBIDDEN = Problem("Forbidden", "no permission to watch pods", NOON)


def test_the_number_of_unobservable_instances_is_null() -> None:
    unseen = pods_of("k/w", has_all_pods=False, problems=[FORBIDDEN])
    agent = one(unseen)
    assert (agent.instance_count, agent.instances, agent.status) == (None, [], "declared")
    assert agent.problems == [FORBIDDEN]
    # Another workload of the agent, all of whose pods are known, does not tell how many there are.
    agent = one(unseen, pods_of("k/v", "q", has_all_pods=False, problems=[FORBIDDEN]))
    assert (agent.instance_count, len(agent.instances)) == (None, 1)
    assert agent.problems == [FORBIDDEN]


def test_heartbeats_count_instances_whose_pods_cannot_be_observed() -> None:
    agent = one(pods_of("k/w", has_all_pods=False, problems=[FORBIDDEN]), beat("a"), beat("b"))
    assert (agent.instance_count, agent.problems) == (2, [FORBIDDEN])
    agent = one(pods_of("k/w", has_all_pods=False, problems=[FORBIDDEN]), beat("a", "silent"))
    assert (agent.instance_count, agent.silent_count) == (None, 1)


def test_cut_problems_are_counted() -> None:
    many = [Problem("Forbidden", f"no permission {n}", NOON) for n in range(MAX_PROBLEMS + 2)]
    agent = one(pods_of("k/w", problems=many))
    assert agent.problems == many[:MAX_PROBLEMS]
    assert agent.truncated == {"problems": MAX_PROBLEMS + 2}


def test_a_beat_without_namespace_joins_the_namespace_of_its_pod() -> None:
    agents = merged(
        pods_of("k/n1/w", "p", namespace="n1"),
        pods_of("k/n2/w", "q", namespace="n2"),
        beat("i", pod_id="q"),
    )
    assert {key: agent.instance_count for key, agent in agents.items()} == {
        "n1/writer": 1,
        "n2/writer": 1,
    }


# ended tasks


def ends(*ids: str, instance: str = "i", at: int = 0) -> list[Ended]:
    return [Ended(id, ended_at=minutes(at - n), instance=instance) for n, id in enumerate(ids)]


def test_ended_tasks_keep_the_order_of_their_source() -> None:
    late = [*ends("c", at=1), *ends("b", "a", at=9)]
    agent = one(beat(), part("heartbeats", ended=late, ended_count=7))
    assert [end.id for end in agent.activity.ended] == ["c", "b", "a"]
    assert agent.activity.ended_count == 7


def test_of_several_sources_the_newest_ended_tasks_in_turn() -> None:
    first = part("heartbeats", ended=ends(*map(str, range(30)), at=99), ended_count=30)
    second = part("otlp", ended=ends("x", "y", instance="j"), ended_count=2)
    activity = one(beat(), second, first).activity
    assert [end.id for end in activity.ended[:5]] == ["0", "x", "1", "y", "2"]
    assert len(activity.ended) == MAX_ENDED
    assert activity.ended_count == 32


def test_an_end_that_two_sources_report_is_listed_once() -> None:
    same = ends("t", "u")
    activity = one(part("heartbeats", ended=same), part("otlp", ended=same)).activity
    assert activity.ended == same
    assert activity.ended_count is None


def test_ended_tasks_without_a_namespace_follow_their_pod() -> None:
    pod = {"namespace": "a", "pods": ["p"]}
    ended = beat(pod_id="p", ended=ends("t"))
    agents = merged(ended, part("kubernetes", **pod), part("kubernetes", namespace="b"))
    assert {key: len(agent.activity.ended) for key, agent in agents.items()} == {
        "a/writer": 1,
        "b/writer": 0,
    }
