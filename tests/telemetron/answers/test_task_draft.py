import pytest

from telemetron.answers.task_draft import Draft, Sought
from telemetron.answers.task_sightings import Sightings
from telemetron.document import Task, Wait
from telemetron.search import QueueRecord, SearchResult, TaskSighting
from tests.telemetron.answers.whereabouts import FEEDS


@pytest.mark.parametrize(
    ("text", "id", "record"),
    [
        ("t-1", "t-1", None),
        ("a/b", "a/b", None),
        ("q/0/42", "q/0/42", QueueRecord("q", 0, 42)),
        ("a/b/0/42", "a/b/0/42", QueueRecord("a/b", 0, 42)),
        ("q/0/-1", "q/0/-1", None),
        ("/0/1", "/0/1", None),
        ("q/0/\u0661", "q/0/\u0661", None),
        ("q/0/" + "1" * 19, "q/0/" + "1" * 19, None),
        ("a\0b\n", "ab", None),
        ("x" * 10_000, "x" * 256, None),
        ("\0", "", None),
    ],
)
def test_a_text_is_an_id_and_may_be_a_record(text, id, record):
    assert Sought.parse(text) == (id, record)


def test_a_known_task_needs_no_search(system):
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    assert system.draft("t").query(100) is None
    system.beat("a")
    assert system.draft("t").query(100) is None


def test_an_unknown_task_is_searched_unless_the_look_is_0(system):
    query = system.draft("t").query(100)
    assert (query.id, query.records, query.look) == ("t", (), 100)
    assert system.draft("t").query(0) is None
    query = system.draft("q/0/7").query(0)
    assert (query.records, query.look) == ((QueueRecord("q", 0, 7),), 0)


def test_a_pending_task_is_looked_up_for_its_place_only(system):
    system.queue("q", system.pending("t", 7))
    query = system.draft("t").query(100)
    assert (query.records, query.look) == ((QueueRecord("q", 0, 7),), 0)


def test_a_lost_task_may_be_in_a_queue_again(system):
    system.beat("a", Task(id="t"))
    system.beat("a", lives=2)
    assert system.draft("t").query(100).look == 100


def sighting(system, **fields):
    task = system.pending("t", 7)
    known = {"queue": "q", "consumer_group": "g", "partition": 0, "offset": 7, "status": "pending"}
    return TaskSighting(**{**known, "task": task, **fields})


def test_a_search_that_gives_a_record_its_id_joins_its_run(system):
    system.beat("a", Task(id="t"))
    seen = sighting(system)
    assert system.draft("q/0/7").where(()) == "unknown"
    assert system.draft("q/0/7", [seen]).where([seen]) == "active"
    assert system.ask("q/0/7", kafka=SearchResult(sightings=[seen]))["where"] == "active"


def test_a_search_that_gives_an_id_its_record_joins_its_run(system):
    system.beat("a", Task(id="own", queue="q", partition=0, offset=7))
    found = system.ask("t", 100, kafka=SearchResult(sightings=[sighting(system)]))
    assert found["where"] == "active"
    assert found["active"][0]["instance"] == "a-0"


def test_a_search_that_gives_a_record_its_id_finds_the_end_of_its_run(system):
    """No list has the record: the queue shows few, and its agent reports no outcome."""
    others = [system.pending(f"other-{number}", number) for number in range(2)]
    system.queue("q", *others, depth=8)
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    system.beat("b", Task(id="u"), task_count=300)
    system.beat("a")
    found = system.ask("q/0/7", kafka=SearchResult(sightings=[sighting(system)]))
    assert found["where"] == "ended"
    assert found["waiting"][0]["offset"] == 7  # it is not committed


def test_a_search_that_gives_a_record_its_id_finds_that_its_run_was_lost(system):
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    system.queue("q")
    system.beat("a", lives=2)
    consumed = sighting(system, status="consumed")
    assert system.ask("q/0/7", kafka=SearchResult(sightings=[consumed]))["where"] == "lost"


def test_a_search_that_only_confirms_a_draft_is_no_news(system):
    system.queue("q", system.pending("t", 7))
    confirmed = {"kafka": SearchResult(sightings=[sighting(system), sighting(system, task=None)])}
    assert system.draft("t").news(confirmed) == []
    assert len(system.draft("q/0/8").news(confirmed)) == 1


def test_without_the_history_the_snapshot_answers(system):
    system.beat("a", Task(id="t"))
    sightings = Sightings(system.store.snapshot)
    draft = Draft(Sought("t", None), sightings, None, FEEDS)
    assert draft.where(()) == "active"
    assert {"of": "history", "why": "it did not answer in time"} in draft.doubts


def test_few_other_tasks_are_looked_up_in_the_history(system):
    for number in range(12):
        system.beat(f"b{number}", Task(id=f"u-{number}"))
        system.beat(f"b{number}")
    waits = [Wait("agent", "b", task=f"u-{number}") for number in range(12)]
    system.beat("a", Task(id="t", waits=waits, wait_count=12))
    words = [one["where"] for one in system.ask("t")["blocked_by"]]
    assert words == ["ended"] * 8 + ["unknown"] * 4
