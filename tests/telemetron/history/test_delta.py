import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.document import Task
from telemetron.history.delta import MEASURES, apply, compare, fields, inverted, shapes

SHAPES = shapes()
LEVELS, ALL = MEASURES["levels"], MEASURES["all"]


def agent(tasks=(), **more):
    return {
        "key": "prod/planner",
        "status": "active",
        "models": [],
        "activity": {
            "active_task_ids": list(tasks),
            "task_count": len(tasks),
            "least_progressed_at": None,
            "last_failure": None,
            "updated_at": "2030-01-01T00:00:00Z",
        },
        "instances": [],
        "problems": [],
        "truncated": None,
        "updated_at": "2030-01-01T00:00:00Z",
    } | more


def task(id, **more):
    return {"id": id, "status": "running", "step": None, "progressed_at": None} | more


def told(old, new, measures=ALL, section="agents"):
    return dict(fields(compare(old, new, SHAPES[section], measures), SHAPES[section], measures))


def test_a_field_has_old_and_new():
    assert told(agent(), agent(status="silent")) == {"status": {"old": "active", "new": "silent"}}


def test_items_are_compared_by_their_identity():
    old = agent([task("a"), task("b/1"), task("c")])
    new = agent([task("c"), task("b/1", status="waiting"), task("d")])
    assert told(old, new) == {
        "activity/active_task_ids/b~11/status": {"old": "running", "new": "waiting"},
        "activity/active_task_ids/a": {"removed": task("a")},
        "activity/active_task_ids/d": {"added": task("d")},
    }


def test_a_new_order_of_items_is_recorded_but_not_shown():
    old, new = agent([task("a"), task("b")]), agent([task("b"), task("a")])
    delta = compare(old, new, SHAPES["agents"], ALL)
    assert delta
    assert told(old, new) == {}
    apply(old, delta)
    assert old == new


def test_items_with_the_same_identity_are_compared_as_a_list():
    old, new = agent([task("a"), task("a")]), agent([task("a")])
    change = told(old, new)["activity/active_task_ids"]
    assert change == {"old": [task("a"), task("a")], "new": [task("a")]}


def test_items_with_the_same_identity_do_not_change_by_measures():
    old = agent([task("a"), task("a")])
    new = agent([task("a"), task("a", progressed_at="x")])
    assert told(old, new, LEVELS) == {}
    assert told(old, new).keys() == {"activity/active_task_ids"}


def test_measures_are_compared_by_kind():
    old = {"depth": 1, "lagging": [], "measured_at": None, "group_state": "Stable"}
    new = {
        "depth": 2,
        "lagging": [{"partition": 0, "lag": 7, "consumed_at": None}],
        "measured_at": "2030-01-01T00:00:00Z",
        "group_state": "Empty",
    }
    state = {"group_state": {"old": "Stable", "new": "Empty"}}
    levels = {"depth": {"old": 1, "new": 2}, "lagging/0": {"added": new["lagging"][0]}}
    sample = {"measured_at": {"old": None, "new": "2030-01-01T00:00:00Z"}}
    assert told(old, new, MEASURES["none"], "queues") == state
    assert told(old, new, LEVELS, "queues") == state | levels
    assert told(old, new, ALL, "queues") == state | levels | sample


def test_the_full_length_of_a_cut_list_is_of_the_kind_of_the_list():
    cut = {"tasks": 21}
    for old, new in ((None, cut), (cut, {"tasks": 22}), (cut, None)):
        queue, later = {"truncated": old}, {"truncated": new}
        assert compare(queue, later, SHAPES["queues"], LEVELS) == {}
        delta = compare(queue, later, SHAPES["queues"], ALL)
        assert dict(fields(delta, SHAPES["queues"], LEVELS)) == {}
        assert dict(fields(delta, SHAPES["queues"], ALL)) == {"truncated": {"old": old, "new": new}}
    members = cut | {"members": 17}
    change = {"truncated": {"old": cut, "new": members}}
    assert told({"truncated": cut}, {"truncated": members}, LEVELS, "queues") == change
    came = {"old": None, "new": {"tasks": 257}}
    assert told(agent(), agent(truncated=came["new"]), MEASURES["none"]) == {"truncated": came}


def test_measures_inside_items_are_compared_by_kind():
    old = agent([task("a", progressed_at="x")])
    new = agent([task("a", progressed_at="y", step="s")])
    assert told(old, new, LEVELS) == {
        "activity/active_task_ids/a/step": {"old": None, "new": "s"},
    }


def test_the_stamps_of_an_entity_move_together():
    old = {"live": {"ready": 1, "updated_at": "2030-01-01Z"}, "updated_at": "2030-01-01Z"}
    new = json.loads(json.dumps(old).replace("2030", "2031"))
    delta = compare(old, new, SHAPES["workload"], ALL)
    assert list(delta) == ["updated_at"]
    apply(old, delta)
    assert old == new


def test_changing_a_result_leaves_the_delta_as_it_was():
    old, new = agent(last=None), agent(last={"a": 1})
    delta = compare(old, new, SHAPES["agents"], ALL)
    kept = json.dumps(delta)
    apply(old, delta)
    old["last"]["a"] = 2
    assert json.dumps(delta) == kept


@pytest.mark.parametrize("section", SHAPES)
def test_every_section_has_its_fields(section):
    assert {"key", "problems"} <= SHAPES[section].keys()


def test_the_marks_are_those_of_the_document():
    tasks = SHAPES["agents"]["activity"].shape["active_task_ids"]
    assert tasks.identity == "id"
    assert tasks.shape["progressed_at"].measure == "sample"
    assert tasks.shape.keys() == set(Task.__struct_fields__)
    assert SHAPES["litellm"]["tpm"].measure == "level"
    assert SHAPES["queues"]["depth"].measure == "level"


def instance(id, outcomes):
    return {"id": id, "outcomes": outcomes}


small = st.sampled_from([None, 0, 1, "x"])
tasks = st.builds(task, st.sampled_from("abcde"), step=small, progressed_at=small)
agents = st.builds(
    agent,
    st.lists(tasks, max_size=5),
    status=small,
    models=st.lists(st.sampled_from("mn"), max_size=2),
    last=st.none() | st.fixed_dictionaries({"a": small}),
    instances=st.lists(st.builds(instance, small, small), max_size=3),
)


@given(agents, agents)
def test_a_delta_is_applied_and_inverted(old, new):
    delta = compare(old, new, SHAPES["agents"], ALL)
    made = json.loads(json.dumps(old))
    apply(made, json.loads(json.dumps(delta)))
    assert json.dumps(made) == json.dumps(new)
    apply(made, inverted(delta))
    assert json.dumps(made) == json.dumps(old)
    assert bool(delta) == (old != new)


def end(id, at="2030-01-01T00:00:00Z", **more):
    return {"id": id, "status": "completed", "ended_at": at} | more


def with_ended(*ends):
    made = agent()
    return made | {"activity": made["activity"] | {"ended": list(ends)}}


def test_ended_tasks_are_identified_by_id_and_time():
    old = with_ended(end("a/1"), end("b", at=None))
    new = with_ended(end("a/1", at="2030-01-01T00:00:09Z", status="failed"), end("a/1"))
    assert told(old, new) == {
        "activity/ended/b@-": {"removed": end("b", at=None)},
        "activity/ended/a~11@2030-01-01T00:00:09Z": {"added": new["activity"]["ended"][0]},
    }
    delta = json.loads(json.dumps(compare(old, new, SHAPES["agents"], ALL)))
    forth, back = with_ended(*old["activity"]["ended"]), with_ended(*new["activity"]["ended"])
    apply(forth, delta)
    apply(back, inverted(delta))
    assert (forth, back) == (new, old)
