import msgspec
import pytest

from telemetron.answers import task_steps
from telemetron.document import Ended, Failure, Task
from telemetron.history.recorder import Entry, pack


def events(system, id="t"):
    past = task_steps.past(system.timeline, id)
    return [(one.event, one.key.rpartition("/")[2], one.why) for one in past.steps]


def test_the_life_of_a_task_in_order(system):
    system.queue("q", system.pending("t", 7))
    system.beat("a", Task(id="t", step="one"))
    system.beat("a", Task(id="t", step="two"))
    system.beat("a", last_failure=Failure("t", "E"))
    assert events(system) == [
        ("submitted", "g", None),
        ("taken", "a", None),
        ("progressed", "a", None),
        ("ended", "a", None),
    ]
    steps, count = task_steps.shown(task_steps.past(system.timeline, "t").steps)
    assert count == 4
    assert [one.get("step") for one in steps] == [None, "one", "two", None]
    assert steps[-1]["error"] == "E"
    assert steps[1]["in"] == "agents/prod/a"


@pytest.mark.parametrize("together", [True, False])
def test_a_reported_end_replaces_what_said_less(system, together):
    ended = Ended("t", status="failed", error="E", ended_at=system.clock.now(), instance="a-0")
    system.beat("a", Task(id="t"))
    if not together:
        system.beat("a")
        system.beat("a", last_failure=Failure("t", "E"))
    system.beat("a", last_failure=Failure("t", "E"), ended=[ended], ended_count=1)
    system.beat("a", last_failure=Failure("u", "E"), ended=[ended], ended_count=1)
    assert [event for event, *_ in events(system)] == ["taken", "ended"]
    (outcome,) = system.ask("t")["ended"]
    assert (outcome["status"], outcome["instance"]) == ("failed", "a-0")


def test_a_second_run_is_a_retry_or_a_move(system):
    system.beat("a", Task(id="t"))
    system.beat("a")
    system.beat("a", Task(id="t"))
    system.beat("b", Task(id="t"))
    system.beat("a")
    assert [event for event, *_ in events(system)] == ["taken", "left", "retried", "moved", "left"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda system: system.beat("a"), task_steps.LEFT),
        (lambda system: system.beat("a", lives=2), task_steps.RESTARTED),
        (lambda system: system.remove("heartbeats", "agents", "a-0"), task_steps.GONE),
    ],
)
def test_why_a_task_left_its_agent(system, change, why):
    system.beat("a", Task(id="t"))
    change(system)
    assert events(system)[-1] == ("left" if why == task_steps.LEFT else "lost", "a", why)


def test_an_instance_among_others_ends_with_its_task(system):
    system.beat("a", instance="a-1")
    system.beat("a", Task(id="t"))
    system.remove("heartbeats", "agents", "a-0")
    assert events(system)[-1] == ("lost", "a", task_steps.REMOVED)


def test_a_task_that_two_instances_run_is_seen_twice(system):
    system.beat("a", Task(id="t"))
    system.beat("a", Task(id="t"), instance="a-1")
    system.beat("a", instance="a-1", lives=2)
    past = task_steps.past(system.timeline, "t")
    assert [(one.event, one.item["instance"]) for one in past.steps] == [
        ("taken", "a-0"),
        ("retried", "a-1"),
        ("lost", "a-1"),
    ]


def test_a_task_that_moves_within_one_step(system):
    system.beat("a", Task(id="t"))
    system.store.put(system.sources["heartbeats"], "agents", "a", "a-0", _part("a-0"))
    system.store.put(system.sources["heartbeats"], "agents", "a", "a-1", _part("a-1", "t"))
    system.flush()
    past = task_steps.past(system.timeline, "t")
    assert [(one.event, one.item["instance"]) for one in past.steps] == [
        ("taken", "a-0"),
        ("left", "a-0"),
        ("retried", "a-1"),
    ]


def _part(instance, *tasks):
    from telemetron.agents import AgentPart
    from telemetron.document import Instance

    return AgentPart(
        namespace="prod",
        instance=Instance(id=instance, status="active", lives=1),
        tasks=[Task(id=id, instance=instance) for id in tasks],
        task_count=len(tasks),
    )


def test_silence_is_a_step(system):
    system.beat("a", Task(id="t"))
    system.beat("a", Task(id="t"), status="silent")
    assert events(system)[-1] == ("lost", "a", "its instance is silent")


def test_silence_is_a_step_with_the_instance_and_the_record_of_the_run(system):
    task = Task(id="t", queue="q", partition=0, offset=7)
    system.beat("a", task)
    system.beat("a", task, status="silent")
    (*_, last) = task_steps.past(system.timeline, "t").steps
    assert (last.event, last.record) == ("lost", ("q", 0, 7))
    assert last.item["instance"] is not None


def test_children_are_known_after_they_ended(system):
    system.beat("a", Task(id="c", parent_id="t"), Task(id="d", parent_id="t"))
    system.beat("a", Task(id="d", parent_id="t"))
    assert task_steps.past(system.timeline, "t").children == {"c": "left", "d": "active"}


def test_progress_is_left_out_first(system):
    system.beat("a", Task(id="t", step="0"))
    for number in range(1, 30):
        system.beat("a", Task(id="t", step=str(number)))
    system.beat("a")
    past = task_steps.past(system.timeline, "t")
    steps, count = task_steps.shown(past.steps)
    assert (len(steps), count) == (20, 31)
    assert (steps[0]["event"], steps[1]["step"], steps[-1]["event"]) == ("taken", "12", "left")
    assert past.is_complete


def test_a_lost_instance_in_a_list_that_is_compared_as_a_whole():
    def entry(old, new):
        sides = [[{"id": id, "lives": lives} for id, lives in one.items()] for one in (old, new)]
        return Entry("agents", "a", pack({"instances": sides}))

    assert task_steps.lost(entry({"i": 1}, {}), "i") == task_steps.REMOVED
    assert task_steps.lost(entry({"i": 1}, {"i": 2}), "i") == task_steps.RESTARTED
    assert task_steps.lost(entry({"i": 1}, {"i": 1}), "i") is None
    assert task_steps.lost(Entry("agents", "a", new=msgspec.json.encode({})), "i") is None
