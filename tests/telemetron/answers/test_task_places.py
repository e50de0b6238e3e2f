from telemetron.document import (
    Failure,
    LastExit,
    Live,
    Member,
    Pod,
    Priority,
    Task,
    Wait,
    Workload,
)
from telemetron.search import SearchResult, TaskSighting


def sighting(offset=7, **more):
    known = {"queue": "q", "consumer_group": "g", "partition": 0, "status": "pending"}
    return TaskSighting(offset=offset, **{**known, **more})


def test_a_run_with_its_pod_and_its_waits(system):
    pod = Pod(
        pod_id="a-0",
        status="Running",
        ready=False,
        reason="CrashLoopBackOff",
        restarts=3,
        last_exit=LastExit("OOMKilled", 137),
        node="n",
    )
    made = Workload(
        deployment_name="a", namespace="prod", kind="Deployment", live=Live(), pods=[pod]
    )
    system.put("kubernetes", "workload", "a", made)
    task = Task(id="t", step="s", stalled=True, waits=[Wait("tool", "search")], wait_count=3)
    system.beat("a", task, pod_id="a-0", workload="kubernetes/prod/Deployment/a")
    (run,) = system.ask("t")["active"]
    assert run == {
        "agent": "prod/a",
        "instance": "a-0",
        "step": "s",
        "stalled": True,
        "waits": [{"kind": "tool", "name": "search"}],
        "wait_count": 3,
        "pod": {
            "workload": "kubernetes/prod/Deployment/a",
            "pod_id": "a-0",
            "status": "Running",
            "ready": False,
            "reason": "CrashLoopBackOff",
            "restarts": 3,
            "node": "n",
            "last_exit": "OOMKilled",
        },
    }


def test_a_pending_record_says_who_consumes_it(system):
    members = [Member("c1", "10.0.0.1", [0, 1], 2), Member("c2", None, [2], 1)]
    system.beat("a", queues=["q"])
    system.queue(
        "q", system.pending("t", 7, priority=Priority("high", "x")), members=members, consumers=2
    )
    (one,) = system.ask("t")["waiting"]
    assert one["consumed_by"] == [{"client_id": "c1", "host": "10.0.0.1"}]
    assert (one["agents"], one["consumers"], one["priority"]) == (["prod/a"], 2, "high")
    assert one["blocks"] == "x"
    assert "ahead" not in one


def test_a_search_adds_the_place_of_a_listed_record(system):
    system.queue("q", system.pending("t", 7))
    result = SearchResult(sightings=[sighting(ahead=3, ahead_exact=False)])
    (one,) = system.ask("t", kafka=result)["waiting"]
    assert (one["offset"], one["ahead"], one["ahead_exact"]) == (7, 3, False)


def test_a_search_finds_a_record_of_each_group(system):
    system.queue("q", depth=40)
    seen = [
        sighting(99, ahead=0, ahead_exact=True, task=system.pending("t", 99)),
        sighting(99, consumer_group="h", status="consumed", task=system.pending("t", 99)),
    ]
    answer = system.ask("t", 100, kafka=SearchResult(sightings=seen))
    assert (answer["where"], answer["waiting"][0]["consumers"]) == ("waiting", 1)
    assert answer["waiting"][0]["ahead"] == 0
    assert "ahead_exact" not in answer["waiting"][0]
    assert answer["consumed"][0]["consumer_group"] == "h"


def test_a_record_that_is_absent_is_no_place(system):
    result = SearchResult(sightings=[sighting(status="absent", why="no record")])
    found = system.found("q/0/7", kafka=result)
    assert found.is_nothing
    unread = SearchResult(sightings=[sighting(status=None, why="no answer")])
    answer = system.ask("q/0/7", kafka=unread)
    assert answer["unchecked"] == [{"of": "queue q", "why": "0/7: no answer"}]


def test_an_outcome_of_the_document_and_of_the_past(system):
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    failed = system.clock.now()
    system.beat("a", last_failure=Failure("t", "E", failed))
    (one,) = system.ask("t")["ended"]
    assert one["status"] == "failed"
    assert one["error"] == "E"
    system.beat("a", last_failure=Failure("u", "F"))
    (one,) = system.ask("t")["ended"]
    assert (one["agent"], one["status"], one["error"]) == ("prod/a", "failed", "E")
    system.beat("a", Task(id="v"))
    system.beat("a")
    (one,) = system.ask("v")["ended"]
    assert "status" not in one
    assert one["why"] == "its agent no longer lists it"
