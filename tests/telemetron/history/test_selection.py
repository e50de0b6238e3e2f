"""Which changes of an entity are shown for the kinds that a client asks for."""

import json

import pytest

from telemetron.document import KINDS
from telemetron.history.delta import sections, shapes
from telemetron.history.selection import selection

SHAPES = shapes()
TASK = {"id": "t", "step": "plan", "stalled": False, "progressed_at": None}


def agent(*tasks, failed=0, status="active", **more):
    return {
        "status": status,
        "activity": {"active_task_ids": list(tasks), "task_count": len(tasks)},
        "instances": [
            {"id": "i", "status": status, "outcomes": {"completed": 0, "failed": failed}}
        ],
        "problems": [],
        "truncated": None,
    } | more


def shown(old, new, kinds=(), section="agents", measures="levels"):
    bodies = [None if one is None else json.dumps(one).encode() for one in (old, new)]
    return selection(measures, kinds).between(section, *bodies, SHAPES[section])


def paths(old, new, *kinds, **more):
    return set(shown(old, new, kinds, **more).change.get("fields", {}))


def test_every_field_of_the_document_has_one_kind():
    def kinds(shape):
        for field in shape.values():
            yield field.kind
            yield from kinds(field.shape)

    assert set(kinds(sections())) == set(KINDS)
    agents = SHAPES["agents"]
    activity = agents["activity"].shape
    assert activity["active_task_ids"].shape["step"].kind == "tasks"
    assert activity["active_task_ids"].shape["stalled"].kind == "status"
    assert agents["instances"].shape["pod_id"].kind == "status"
    assert agents["problems"].shape["message"].kind == "problems"
    assert SHAPES["findings"]["effects"].kind == "problems"
    assert {name: one.kind for name, one in sections().items()} == {
        **dict.fromkeys(SHAPES, "membership"),
        "findings": "problems",
    }


def test_tasks_that_only_came_and_went_are_counts():
    found = shown(agent(TASK), agent(TASK | {"id": "u"}, TASK | {"id": "v"}, failed=1))
    assert found.change == {
        "change": "changed",
        "tasks": {"started": 2, "ended": 1, "failed": 1, "unknown": 0, "changed": 0},
    }
    assert found.turnover
    assert "activity/active_task_ids/t" in found.timed


def test_tasks_are_listed_if_they_are_asked_for():
    old, new = agent(TASK), agent(TASK | {"id": "u"})
    listed = {"activity/active_task_ids/t", "activity/active_task_ids/u"}
    assert paths(old, new, "tasks") == listed
    assert paths(old, new, *KINDS) == listed
    assert paths(old, new, "status", "problems") == set()


def test_a_stalled_task_is_a_change_of_status_beside_the_counts():
    found = shown(agent(TASK), agent(TASK | {"stalled": True}, TASK | {"id": "u"}))
    assert set(found.change) == {"change", "fields", "tasks"}
    assert set(found.timed) == {"activity/active_task_ids/t/stalled"}
    assert found.turnover is None


def test_a_new_task_that_is_stalled_by_now_is_a_change_of_status():
    old, new = agent(TASK), agent(TASK, TASK | {"id": "u", "stalled": True}, TASK | {"id": "v"})
    stalled = {"activity/active_task_ids/u/stalled"}
    assert paths(old, new, "status", "problems") == stalled
    assert paths(old, new, "problems") == set()
    assert paths(new, old, "status") == set()
    assert shown(old, new).change["fields"] == {
        "activity/active_task_ids/u/stalled": {"old": None, "new": True}
    }
    assert shown(old, new).change["tasks"]["started"] == 2


def test_a_new_instance_that_is_silent_by_now_is_a_change_of_status():
    one, other = agent()["instances"][0], agent()["instances"][0] | {"id": "j"}
    silent = agent(instances=[one, other | {"status": "silent"}])
    assert paths(agent(), silent, "status") == {"instances/j/status"}
    assert paths(agent(), agent(instances=[one, other]), "status") == set()


def test_a_new_pod_that_has_crashed_is_a_problem():
    well = {"pod_id": "p-1", "status": "Running", "last_exit": None, "problems": []}
    begun = well | {"pod_id": "p-3", "last_exit": {"reason": "Completed", "exit_code": 0}}
    crashed = well | {"pod_id": "p-2", "last_exit": {"reason": "OOMKilled", "exit_code": 137}}
    old, new = {"pods": [well]}, {"pods": [well, crashed, begun]}
    changed = {"pods/p-2/last_exit"}
    assert paths(old, new, "status", "problems", section="workload") == changed
    assert paths(old, new, "membership", section="workload") == {"pods/p-2", "pods/p-3"}


@pytest.mark.parametrize(("new", "kind"), [("idle", "tasks"), ("silent", "status")])
def test_an_agent_that_takes_or_ends_tasks_has_not_changed_its_status(new, kind):
    moved = {"status", "instances/i/status"}
    for one in ("tasks", "status"):
        assert paths(agent(), agent(status=new), one) == (moved if one == kind else set())


def test_tasks_of_a_silent_agent_have_not_changed_their_status():
    unknown = TASK | {"stalled": None}
    assert paths(agent(TASK), agent(unknown), "status") == set()
    path = {"activity/active_task_ids/t/stalled"}
    assert paths(agent(TASK), agent(unknown), "tasks") == path
    assert paths(agent(unknown), agent(TASK | {"stalled": True}), "status") == path


def test_entities_come_and_go_with_the_kind_of_their_section():
    for section, kind in (("agents", "membership"), ("findings", "problems")):
        for one in KINDS:
            came, went = (shown(*two, [one], section) for two in ((None, {}), ({}, None)))
            expected = ["added", "removed"] if one == kind else [None, None]
            assert [came.change.get("change"), went.change.get("change")] == expected


def test_the_length_of_a_cut_list_is_of_the_kind_of_the_list():
    old = agent(truncated={"activity.active_task_ids": 300, "instances": 300})
    churn = agent(truncated={"activity.active_task_ids": 301, "instances": 300})
    assert paths(old, churn, "tasks") == {"truncated"}
    grown = agent(truncated={"activity.active_task_ids": 301, "instances": 301})
    assert paths(old, grown, "membership") == {"truncated"}
    assert paths(old, grown, "tasks", "status") == set()


def test_measures_are_those_of_both_parameters():
    old, new = {"depth": 1, "consumed_at": "a"}, {"depth": 2, "consumed_at": "b"}
    asked = {"section": "queues"}
    assert paths(old, new, "measures", **asked) == {"depth"}
    assert paths(old, new, "measures", measures="all", **asked) == {"depth", "consumed_at"}
    assert paths(old, new, "measures", measures="none", **asked) == set()
    assert paths(old, new, "status", measures="all", **asked) == set()


def test_tasks_are_counted_without_measures_too():
    found = shown(agent(TASK), agent(failed=1), measures="none").change
    assert found["tasks"]["failed"] == 1
