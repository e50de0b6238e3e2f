"""How many tasks of an agent came and went between two versions."""

import pytest

from telemetron.history.delta import MEASURES, compare, shapes
from telemetron.history.turnover import Turnover, turnover
from telemetron.normal import LARGEST

AGENT = shapes()["agents"]


def task(id, **more):
    return {"id": id, "status": "running", "step": None} | more


def agent(*tasks, outcomes=None, count=None, ended=()):
    return {
        "activity": {
            "active_task_ids": list(tasks),
            "ended": [{"id": id, "status": status, "ended_at": None} for id, status in ended],
            "ended_count": len(ended),
            "task_count": len(tasks) if count is None else count,
        },
        "instances": [{"id": "i", "status": "active", "outcomes": outcomes}],
    }


def outcomes(completed=0, failed=0, canceled=0):
    return {"completed": completed, "failed": failed, "canceled": canceled}


def counted(old, new, is_sure=True):
    return turnover(compare(old, new, AGENT, MEASURES["levels"]), is_sure)


def test_nothing_changed():
    assert turnover({}) == Turnover()


def test_tasks_that_are_listed_before_or_after_are_counted():
    found = counted(agent(task("a"), task("b")), agent(task("b", step="s"), task("c"), task("d")))
    assert found == Turnover(started=2, ended=1, failed=0, unknown=1, changed=1)


def test_tasks_that_came_and_went_unseen_count_by_the_outcomes():
    old = agent(task("a"), outcomes=outcomes(10, 2))
    new = agent(task("z"), outcomes=outcomes(20, 3, 1))
    assert counted(old, new) == Turnover(started=12, ended=12, failed=1)


def test_ended_tasks_that_are_reported_have_an_outcome():
    ended = [("b", "failed"), ("c", "completed"), ("d", None)]
    found = counted(agent(task("a")), agent(task("a"), ended=ended))
    assert found == Turnover(started=3, ended=3, failed=1, unknown=1)
    found = counted(agent(ended=ended[:1]), agent(ended=ended))
    assert found == Turnover(started=2, ended=2, failed=0, unknown=1)


def test_outcomes_of_a_restarted_instance_begin_at_zero():
    old, new = agent(outcomes=outcomes(100, 50)), agent(outcomes=outcomes(2, 1))
    assert counted(old, new) == Turnover(started=3, ended=3, failed=1)


def test_outcomes_that_begin_to_be_reported_count_nothing():
    assert counted(agent(), agent(outcomes=outcomes(100, 50))) == Turnover()


def test_a_cut_list_counts_by_its_full_length():
    assert counted(agent(task("a"), count=500), agent(task("a"), count=503)).started == 3


def test_tasks_of_one_id_are_counted_as_a_list():
    old, new = agent(task("a"), task("a", step="s")), agent(task("a"), task("b"))
    found = counted(old, new)
    assert (found.started, found.ended) == (1, 1)


def test_what_a_starting_source_has_not_seen_yet_has_not_ended():
    assert counted(agent(task("a"), task("b")), agent(task("c")), is_sure=False) == Turnover(1)


def test_counts_stop_at_the_largest_integer():
    old, new = agent(outcomes=outcomes()), agent(outcomes=outcomes(LARGEST, LARGEST, LARGEST))
    found = counted(old, new)
    assert found == Turnover(started=LARGEST, ended=LARGEST, failed=LARGEST)
    assert found.plus(found) == found


@pytest.mark.parametrize("field", Turnover._fields)
def test_two_turnovers_are_added(field):
    one, other = Turnover(1, 2, 3, 4, 5), Turnover(10, 20, 30, 40, 50)
    assert getattr(one.plus(other), field) == getattr(one, field) * 11
