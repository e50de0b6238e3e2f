import msgspec

from telemetron.document import Task
from telemetron.search import SearchedRange, SearchResult


def test_an_answer_is_small_and_has_no_nulls(system):
    system.queue("q", system.pending("t", 7))
    system.beat("a", Task(id="p"))
    system.beat("b", Task(id="t", parent_id="p", step="one", queue="q", partition=0, offset=7))
    for number in range(30):
        system.beat("b", Task(id="t", parent_id="p", step=f"{number}"))
    body = msgspec.json.encode(system.found("t").body)
    assert b"null" not in body
    assert len(body) < 4096


def test_several_tasks_of_one_id_are_all_there(system):
    system.queue("q", system.pending("t", 7), system.pending("t", 9))
    answer = system.ask("t")
    assert (answer["several"], len(answer["waiting"])) == (2, 2)
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    answer = system.ask("t")
    assert (answer["where"], answer["several"]) == ("active", 2)


def test_one_task_that_runs_twice_counts_twice(system):
    for instance in ("a-0", "a-1"):
        system.beat("a", Task(id="t", queue="q", partition=0, offset=7), instance=instance)
    answer = system.ask("t")
    assert (answer["several"], len(answer["active"])) == (2, 2)


def test_one_task_that_is_pending_and_active_is_one(system):
    system.queue("q", system.pending("t", 7))
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    assert "several" not in system.ask("t")


def test_cut_lists_have_their_full_count(system):
    for number in range(20):
        system.beat(f"a{number}", Task(id="t"), Task(id=f"c{number}", parent_id="t"))
    answer = system.ask("t")
    assert (len(answer["active"]), len(answer["children"])) == (8, 16)
    assert answer["truncated"] == {"active": 20, "children": 20}


def test_the_range_that_was_not_searched_comes_first(system):
    spans = [
        SearchedRange(queue="q", partition=0, first=0, next=5, end=5),
        SearchedRange(queue="q", partition=1, first=0, next=2, end=9, why="the look ended"),
    ]
    answer = system.ask("t", 100, kafka=SearchResult(searched=spans))
    assert answer["searched"] == [
        {"queue": "q", "partition": 1, "from": 0, "to": 2, "end": 9, "why": "the look ended"},
        {"queue": "q", "partition": 0, "from": 0, "to": 5, "end": 5},
    ]


def test_the_place_is_that_of_the_snapshot(system):
    system.beat("a", Task(id="t"))
    snapshot = system.store.snapshot
    assert system.ask("t")["place"] == f"{snapshot.epoch}.{snapshot.change.revision}"


def test_a_task_of_an_earlier_time_is_not_forgotten(system):
    system.beat("a", Task(id="t"))
    system.beat("a")
    for number in range(600):
        system.beat("a", Task(id=f"u-{number}"))
    answer = system.ask("t")
    assert answer["where"] == "ended"
    assert [one["event"] for one in answer["timeline"]] == ["taken", "left"]
