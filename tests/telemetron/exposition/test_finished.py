from msgspec.structs import replace

from telemetron.document import Instance, Outcomes
from telemetron.exposition.finished import GONE, Finished
from tests.telemetron.answers.brief.made import agent, ago, snapshot

STARTED = ago(900)


def instance(id, completed=0, failed=0, started_at=STARTED):
    outcomes = Outcomes(completed=completed, failed=failed)
    return Instance(id=id, status="idle", started_at=started_at, outcomes=outcomes)


def completed(finished, *instances, **fields):
    found = finished.count(agent("a", instances=list(instances), **fields))
    return found and found["completed"]


def test_outcomes_of_all_instances_are_added():
    found = Finished().count(agent("a", instances=[instance("i", 3, 1), instance("j", 2)]))
    assert found == {"completed": 5, "failed": 1, "canceled": 0}


def test_the_count_never_falls():
    finished = Finished()
    counts = [
        completed(finished, instance("i", 10), instance("j", 5)),
        completed(finished, instance("i", 12), instance("j", 5)),
        completed(finished, instance("i", 12)),  # j has ended
        completed(finished, instance("i", 1, started_at=ago(5))),  # i was restarted
        completed(finished, instance("i", 1, started_at=ago(5)), instance("k", 2)),
        completed(finished),
    ]
    assert counts == [15, 17, 17, 18, 20, 20]


def test_an_unnamed_restart_shows_by_its_smaller_numbers():
    finished = Finished()
    assert completed(finished, instance("i", 10, started_at=None)) == 10
    assert completed(finished, instance("i", 4, started_at=None)) == 14


def test_an_instance_that_returns_counts_on():
    finished = Finished()
    completed(finished, instance("i", 10))
    completed(finished)
    assert completed(finished, instance("i", 11)) == 11


def test_instances_of_long_ago_are_forgotten():
    finished = Finished()
    completed(finished, instance("i", 1))
    for number in range(GONE + 1):
        completed(finished, instance(f"j-{number}", 1))
    total = GONE + 2
    assert completed(finished, instance("i", 1)) == total + 1


def test_nothing_is_invented():
    silent = replace(instance("i"), outcomes=None)
    assert completed(Finished(), silent) is None
    assert completed(Finished(), instance("i", 1), truncated={"instances": 900}) is None
    assert completed(Finished(), instance("i", 1), truncated={"models": 90}) == 1


def test_agents_that_went_are_forgotten_once_they_are_many():
    finished = Finished()
    made = [agent(f"a-{n}", instances=[instance("i", 7)]) for n in range(GONE + 3)]
    for one in made:
        finished.count(one)
    finished.forget(snapshot(agents=made[-2:]).sections["agents"].rope)
    gone, kept = (agent(f"a-{n}", instances=[]) for n in (0, GONE + 2))
    assert finished.count(gone) is None
    assert finished.count(kept) == {"completed": 7, "failed": 0, "canceled": 0}
