from telemetron.answers import task_doubts
from telemetron.answers.task_sightings import Sightings
from telemetron.document import Task
from telemetron.search import SearchedRange, SearchResult
from tests.telemetron.answers.whereabouts import FEEDS, Whereabouts


def doubts(system, **results):
    answer = system.ask("nope", 100, **results)
    assert answer["where"] == "unknown"
    return [(one["of"], one["why"]) for one in answer.get("unchecked", ())]


def test_nothing_is_doubtful_if_everything_was_looked_at(system):
    system.beat("a", Task(id="t"))
    system.queue("q", system.pending("u", 7))
    found = system.found("nope", 100)
    assert found.is_nothing
    assert "unchecked" not in found.body


def test_a_source_of_agents_or_queues_that_is_not_ok(system):
    system.sources["kafka"].trouble("", "Unreachable", "no answer")
    system.sources["heartbeats"].fail("Crashed", "ValueError")
    system.flush()
    assert doubts(system) == [
        ("heartbeats", "it is failing (Crashed)"),
        ("kafka", "it is degraded (Unreachable)"),
    ]


def test_a_source_that_is_off_is_no_part_of_the_system(system):
    system.store.add("other", "other")
    system.flush()
    rows = Sightings(system.store.snapshot).rows()
    assert list(task_doubts.of_sources(rows, FEEDS)) == []
    off = [row for row in rows if row.key == "other"]
    off = [type(one)(**{**_fields(one), "collector": "heartbeats"}) for one in off]
    assert list(task_doubts.of_sources(off, FEEDS)) == [{"of": "other", "why": "it is off"}]


def _fields(row):
    return {name: getattr(row, name) for name in row.__struct_fields__}


def test_cut_lists_of_agents_and_queues(system):
    system.beat("a", Task(id="t"), task_count=300)
    system.queue("q", system.pending("u", 7), depth=40)
    system.queue("r", depth=None)
    assert doubts(system) == [
        ("agents/prod/a", "1 of 300 active tasks are listed"),
        ("queues/kafka/q/g", "1 of 40 pending tasks are listed"),
        ("queues/kafka/r/g", "the number of its pending tasks is not known"),
    ]


def test_a_search_replaces_the_doubts_about_its_queues(system):
    system.queue("q", system.pending("u", 7), depth=40)
    whole = SearchedRange(queue="q", partition=0, first=7, next=47, end=47)
    assert system.found("nope", 100, kafka=SearchResult(searched=[whole])).is_nothing
    part = SearchedRange(queue="q", partition=0, first=7, next=17, end=47, why="the look ended")
    found = SearchResult(searched=[part], unchecked=["queue r is not read"])
    assert doubts(system, kafka=found) == [
        ("kafka", "queue r is not read"),
        ("queue q", "partition 0: searched 7 to 17 of 47; the look ended"),
    ]


def test_a_history_that_has_dropped_steps():
    system = Whereabouts(memory_bytes=1, recent_weight=3, open_weight=2, keyframe_bytes=1)
    for number in range(200):
        system.beat("a", Task(id=f"t-{number}"))
    ((of, why),) = doubts(system)
    assert of == "history"
    assert "no longer kept" in why
    assert "it begins at 2030-01-01T00:" in why
    system.close()
