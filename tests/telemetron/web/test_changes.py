"""Changes, the past, lives of entities and streams, over HTTP from a real server."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from telemetron.http import HttpProblem
from telemetron.testing import FakeClock
from telemetron.web.changes import ChangesApp
from tests.telemetron.web.client import AGENTS, EVENTS, beat, events, place


async def changes(live, **asked):
    answer = await live.client.get("/system/changes", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def life(live, key, **asked):
    return await live.client.get(f"/system/history/{key}", params=asked)


async def test_an_agent_is_added_changed_and_removed(live):
    before = await place(live)
    await beat(live, tasks=[{"id": "t-1", "step": "plan"}])
    came = await changes(live, since=before, sections="agents")
    (change,) = came["changes"]
    assert (change["section"], change["key"], change["change"]) == (
        "agents",
        "prod/planner",
        "added",
    )
    assert change["new"]["activity"]["active_task_ids"][0]["id"] == "t-1"
    assert came["from"] == before
    assert came["complete"]

    await beat(live, tasks=[{"id": "t-1", "step": "write"}])
    changed = await changes(live, since=came["to"], sections="agents", kinds="all")
    (change,) = changed["changes"]
    assert change["fields"] == {
        "activity/active_task_ids/t-1/step": {"old": "plan", "new": "write"}
    }

    url = "/agents/planner/instances/i1?namespace=prod"
    assert (await live.client.delete(url)).status_code == 204
    await place(live)
    went = await changes(live, since=changed["to"], sections="agents")
    (change,) = went["changes"]
    assert change["change"] == "removed"
    assert change["old"]["activity"]["active_task_ids"][0]["step"] == "write"
    assert (await changes(live, since=before, sections="agents"))["changes"] == []


async def test_the_newest_changes_are_in_the_answer(live):
    since = await place(live)
    for number in range(20):
        await beat(live, f"agent-{number}")
        found = await changes(live, since=since, key=f"prod/agent-{number}")
        assert [change["key"] for change in found["changes"]] == [f"prod/agent-{number}"]


async def test_a_truncated_answer_has_the_path_of_the_rest(live):
    since = await place(live)
    names = [f"agent-{number}" for number in range(7)]
    for name in names:
        await beat(live, name)
    until = await place(live)
    url, found = f"/system/changes?since={since}&sections=agents&limit=3&measures=none", []
    for page in (3, 3, 1):
        answer = (await live.client.get(url)).json()
        assert len(answer["changes"]) == page
        assert answer["to"] == until
        assert answer["truncated"] == (answer["next"] is not None) == (page != 1 or False)
        found += [change["key"] for change in answer["changes"]]
        url = answer["next"]
        await beat(live, "late", version="1")
    assert found == [f"prod/{name}" for name in names]


async def test_the_past_is_the_document_of_that_time(live):
    await beat(live, tasks=[{"id": "t-1"}])
    then = await live.client.get("/system/state?sections=agents")
    at = then.headers["etag"][3:-1]
    await beat(live, tasks=[])
    past = await live.client.get(f"/system/state?at={at}&sections=agents")
    assert past.json()["agents"] == then.json()["agents"]
    assert past.headers["etag"] == then.headers["etag"]
    assert past.json()["changed_at"] == then.json()["changed_at"]
    entity = await live.client.get(f"/system/state/agents/prod/planner?at={at}")
    assert entity.json()["agents"] == then.json()["agents"]
    known = {"if-none-match": past.headers["etag"]}
    again = await live.client.get(f"/system/state?at={at}&sections=agents", headers=known)
    assert again.status_code == 304


async def test_late_measures_change_the_past(serving):
    clock = FakeClock()
    async with serving("", {"clock": clock}) as live:
        for minute in range(2):
            task = {"id": "t", "progressed_at": f"2030-01-01T00:0{minute}:00Z"}
            await beat(live, tasks=[task], interval_seconds=300)
        path = "/system/state?sections=agents&at={}"
        first = await live.client.get(path.format(await place(live)))
        await a_minute(clock)  # then the history records the latest sample
        later = f"{await place(live)}-1"
        await until_known(live, later)
        known = {"if-none-match": first.headers["etag"]}
        second = await live.client.get(path.format(later), headers=known)
        assert second.status_code == 200
        assert second.headers["etag"] == f'W/"{later}"'
        assert second.json()["agents"] != first.json()["agents"]
        known = {"if-none-match": second.headers["etag"]}
        assert (await live.client.get(path.format(later), headers=known)).status_code == 304


async def a_minute(clock):
    """Advance the clock in steps, so that sources can confirm in between."""
    for _ in range(61):
        clock.advance(1)
        await asyncio.sleep(0.001)


async def until_known(live, place):
    """Ask for a place until the history, which records after it has answered, has it."""
    async with asyncio.timeout(30):
        while (await live.client.get(f"/system/state?at={place}")).status_code == 410:
            pass


async def test_a_time_in_the_future_is_refused(live):
    def at(**ahead):
        return (datetime.now(UTC) + timedelta(**ahead)).isoformat().replace("+00:00", "Z")

    await beat(live)
    answer = await live.client.get(f"/system/state?at={at(minutes=1)}")
    assert answer.status_code == 400
    assert "in the future; now is" in answer.json()["detail"]
    # The reader's clock may be a little ahead.
    answer = await live.client.get(f"/system/state?at={at(seconds=0.5)}")
    assert answer.json()["agents"]


async def test_the_past_before_an_entity_lacks_it(live):
    before = await place(live)
    await beat(live)
    for path in ("/system/state", "/system/state/agents"):
        assert (await live.client.get(f"{path}?at={before}")).json()["agents"] == []
    gone = await live.client.get(f"/system/state/agents/prod/planner?at={before}")
    assert gone.status_code == 404


async def test_a_life_has_pages_newest_first(live):
    for step in ("one", "two", "three"):
        await beat(live, tasks=[{"id": "t", "step": step}])
        await place(live)
    first = (await life(live, "agents/prod/planner", limit=2, kinds="all")).json()
    assert first["present"]
    assert [change["change"] for change in first["changes"]] == ["changed", "changed"]
    assert first["changes"][0]["fields"] == {
        "activity/active_task_ids/t/step": {"old": "two", "new": "three"}
    }
    second = (await live.client.get(first["next"])).json()
    assert [change["change"] for change in second["changes"]] == ["added"]
    assert second["next"] is None
    url = "/agents/planner/instances/i1?namespace=prod"
    await live.client.delete(url)
    await place(live)
    gone = (await life(live, "agents/prod/planner")).json()
    assert not gone["present"]
    assert gone["changes"][0]["change"] == "removed"


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/system/changes?since=x", 400, "expected a place"),
        ("/system/changes?since=ab.1", 410, "the oldest place kept is"),
        ("/system/changes?since=", 400, "since: expected a place"),
        ("/system/changes?since=0.1&until=banana", 400, "until: expected a place"),
        ("/system/changes?since=0.1&since=0.2", 400, "is given twice"),
        ("/system/changes?after=agents", 400, "after: expected SECTION/KEY"),
        ("/system/state?at=5m", 410, "the history does not reach back to that time"),
        ("/system/state?at=", 400, "at: expected a place"),
        ("/system/history/agents/nobody?before=banana", 400, "before: expected a place"),
        ("/system/history/agents/nobody?before=0s", 404, "no 'nobody' in agents"),
        ("/system/changes?since=0.1&sections=agent", 400, "no section 'agent'"),
        (
            "/system/changes?since=0.1&measures=some",
            400,
            "measures: expected one of none, levels, all",
        ),
        ("/system/changes?since=0.1&limit=0", 400, "limit: expected 1 to 1,000"),
        ("/system/changes?since=0.1&limit=0000000019999", 400, "limit: expected 1 to 1,000"),
        (f"/system/changes?since=0.1&limit=1{'9' * 5000}", 400, "limit: expected 1 to 1,000"),
        ("/system/changes?from=0.1", 400, "known: since, until"),
        ("/system/state?at=yesterday", 400, "expected a place"),
        ("/system/state?at=ab.1", 410, "epoch ab is not in the history"),
        ("/system/history/agents/nobody", 404, "no 'nobody' in agents"),
        ("/system/history/agent/nobody", 404, "no section 'agent'"),
        ("/system/changes?kinds=tasks,state", 400, "no kind 'state'; kinds are status, problems"),
        ("/system/changes?kinds=", 400, "no kind ''"),
        ("/system/history/agents/nobody?kinds=task", 400, "no kind 'task'"),
    ],
)
async def test_wrong_questions_are_problems(live, path, status, detail):
    answer = await live.client.get(path)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]
    if status == 410:
        oldest = answer.json()["oldest"]
        assert (await live.client.get(f"/system/changes?since={oldest}")).status_code == 200


CHANGES, LIFE, STATE = "/system/changes", "/system/history", "/system/state"


@pytest.mark.parametrize(
    ("path", "status", "nearest"),
    [
        (f"{CHANGES}?key=prod/planer", 404, "prod/planner"),
        (f"{CHANGES}?since=5m&key=planner", 404, "prod/planner"),
        (f"{CHANGES}?sections=agents&kinds=tasks&key=prod/planer", 404, "prod/planner"),
        (f"{CHANGES}?sections=agent", 400, "agents"),
        (f"{CHANGES}?after=agent/x", 400, "agents"),
        (f"{CHANGES}?kinds=task", 400, "tasks"),
        (f"{CHANGES}?sections=sources&key=heartbeat", 404, "heartbeats"),
        (f"{LIFE}/agents/prod/planer", 404, "prod/planner"),
        (f"{LIFE}/agent/prod/planner", 404, "agents"),
        (f"{LIFE}/sources/heartbeat", 404, "heartbeats"),
        (f"{LIFE}/findings/nothing", 404, None),
        (f"{LIFE}/agents", 404, "prod/planner"),
        (f"{LIFE}/agents/", 404, "prod/planner"),
        (f"{LIFE}/agents/prod/planner?kinds=stats", 400, "status"),
        (f"{STATE}/agents/prod/planer", 404, "prod/planner"),
        (f"{STATE}/agents/planner", 404, "prod/planner"),
        (f"{STATE}/agents/prod/planer?at={{place}}", 404, "prod/planner"),
        (f"{STATE}/agents/prod/planer?since={{place}}&wait=1s", 404, "prod/planner"),
        (f"{STATE}/agent", 404, "agents"),
        (f"{STATE}/agent?at={{place}}", 404, "agents"),
        (f"{STATE}?sections=agent", 400, "agents"),
        (f"{STATE}/sources/heartbeat", 404, "heartbeats"),
        (f"{STATE}/findings/nothing", 404, None),
        ("/system/change", 404, "/system/changes"),
        ("/systems/state", 404, "/system/state"),
    ],
)
async def test_a_wrong_key_or_name_is_never_an_empty_success(live, path, status, nearest):
    await beat(live)
    answer = await live.client.get(path.format(place=await place(live)))
    problem = answer.json()
    assert answer.status_code == status, problem
    assert problem["nearest"][:1] == ([nearest] if nearest else [])
    if path.startswith(CHANGES) and "after" not in path:
        streamed = await live.client.get(path, headers=EVENTS)
        assert (streamed.status_code, streamed.json()) == (status, problem)


@pytest.mark.parametrize("measures", ["none", "levels", "all"])
async def test_a_duration_works_after_a_restart_with_a_file(serving, tmp_path, measures):
    config = f"history: {{url: 'sqlite:///{tmp_path}/history.db'}}"
    async with serving(config) as live:
        await beat(live, "before")
        epoch, _, _ = (await changes(live))["to"].partition(".")
    async with serving(config) as live:
        await beat(live, "after")
        asked = {"measures": measures, "sections": "agents"}
        async with asyncio.timeout(30):  # opening the file takes a moment
            while not (await changes(live, since="5m"))["from"].startswith(f"{epoch}."):
                pass
        for since in ("5m", "2000-01-01T00:00:00Z"):
            answer = await changes(live, since=since, **asked)
            assert answer["from"].startswith(f"{epoch}.")
            assert not answer["complete"]
            assert "prod/after" in [one["key"] for one in answer["changes"]]
            path = f"/system/history/agents/prod/after?before={since}&measures={measures}"
            lived = (await live.client.get(path)).json()
            assert (lived["changes"], lived["complete"]) == ([], False)


async def test_kinds_choose_the_changes_of_answers_lives_and_streams(live):
    await beat(live, tasks=[{"id": "t-1"}])
    since = await place(live)
    asked = {"since": since, "key": "prod/planner"}
    path = f"/system/changes?since={since}&key=prod/planner&kinds="
    async with (
        live.client.stream("GET", f"{path}status", headers=EVENTS) as statuses,
        live.client.stream("GET", f"{path}tasks", headers=EVENTS) as tasks,
    ):
        await beat(live, tasks=[{"id": "t-2"}])
        await beat(live, tasks=[{"id": "t-2"}, {"id": "t-3"}], version="2")
        (default,) = (await changes(live, **asked))["changes"]
        assert set(default["fields"]) == {"instances/i1/version"}
        assert default["tasks"] == {
            "started": 2,
            "ended": 1,
            "failed": 0,
            "unknown": 1,
            "changed": 0,
        }
        (of_status,) = (await changes(live, **asked, kinds="status"))["changes"]
        assert set(of_status["fields"]) == {"instances/i1/version"}
        assert "tasks" not in of_status
        both = await changes(live, **asked, kinds="status,tasks")
        twice = await live.client.get(f"{path}tasks&kinds=status")
        assert twice.json() == both
        assert (await changes(live, **asked, kinds="problems,membership"))["changes"] == []

        told = events(statuses)
        (first,) = json.loads([await anext(told), await anext(told)][1]["data"])["changes"]
        assert set(first["fields"]) == {"instances/i1/version"}
        told = events(tasks)
        (first,) = json.loads([await anext(told), await anext(told)][1]["data"])["changes"]
        assert "activity/active_task_ids/t-1" in first["fields"]
    lived = (await life(live, "agents/prod/planner", kinds="status")).json()
    assert [set(one.get("fields", ())) for one in lived["changes"]] == [{"instances/i1/version"}]
    lived = (await life(live, "agents/prod/planner", kinds="membership")).json()
    assert [one["change"] for one in lived["changes"]] == ["added"]


async def test_next_keeps_the_kinds(live):
    since = await place(live)
    for name in ("one", "two"):
        await beat(live, name)
    first = await changes(live, since=since, kinds="membership,tasks", limit=1, sections="agents")
    assert "kinds=membership%2Ctasks" in first["next"]
    second = (await live.client.get(first["next"])).json()
    assert [one["change"] for one in second["changes"]] == ["added"]
    assert second["next"] is None


async def test_a_life_has_20_changes_and_counts_the_tasks_in_between(live):
    for number in range(6):
        await beat(live, tasks=[{"id": f"t-{number}"}], version="1" if number < 3 else "2")
        await place(live)
    lived = (await life(live, "agents/prod/planner")).json()
    assert [one.get("tasks", {}).get("ended") for one in lived["changes"]] == [2, 1, 2, None]
    assert [one["change"] for one in lived["changes"]] == [*["changed"] * 3, "added"]
    newest = await life(live, "agents/prod/planner", limit=1)
    assert newest.json()["changes"] == lived["changes"][:1]
    rest = (await live.client.get(newest.json()["next"])).json()
    assert rest["changes"] == lived["changes"][1:2]

    for number in range(25):
        await beat(live, version=f"{number}.0")
        await place(live)
    lived = (await life(live, "agents/prod/planner")).json()
    assert len(lived["changes"]) == 20
    assert lived["truncated"]


@pytest.mark.parametrize("since", ["5m", "2000-01-01T00:00:00Z", "999999d"])
async def test_a_time_before_the_history_means_the_oldest_place(live, since):
    await beat(live)
    oldest = await changes(live)
    answer = await changes(live, since=since)
    assert answer["from"] == oldest["from"]
    assert (answer["complete"], answer["starting"]) == (False, [])
    assert answer["changes"] == oldest["changes"]
    assert oldest["complete"]
    past = (await life(live, "agents/prod/planner", before=since)).json()
    assert (past["changes"], past["complete"], past["present"]) == ([], False, True)
    path = f"/system/changes?since={since}"
    async with live.client.stream("GET", path, headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        first = json.loads((await anext(told))["data"])
        assert (first["from"], first["complete"]) == (oldest["from"], False)
        await beat(live, version="2")
        assert json.loads((await anext(told))["data"])["complete"]


async def test_an_etag_is_a_place(live):
    etag = (await live.client.get("/system/state")).headers["etag"]
    await beat(live)
    for since in (etag, etag[2:], etag[3:-1], etag[:-1] + '-gzip"'):
        answer = await changes(live, since=since, until=since, sections="agents")
        assert answer["from"] == answer["to"] == etag[3:-1]
        past = await live.client.get("/system/state", params={"at": since})
        assert past.headers["etag"] == etag


async def test_sections_may_be_repeated(live):
    await beat(live)
    for query in ("sections=agents,queues", "sections=agents&sections=queues"):
        answer = (await live.client.get(f"/system/changes?{query}")).json()
        assert [change["section"] for change in answer["changes"]] == ["agents"]


@pytest.mark.parametrize(
    "path",
    [
        "/system/changes?key=writer",
        "/system/changes?key=writer&sections=agents",
        "/system/changes?key=prod/writr",
        "/system/history/agents/writer",
        "/system/history/agents/prod/Writer?measures=none",
        "/system/state/agents/writer",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_an_unknown_key_is_a_problem_that_names_similar_ones(live, path, accept):
    await beat(live, "writer")
    answer = await live.client.get(path, headers={"accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["nearest"][0] == "prod/writer"
    assert "did you mean prod/writer?" in answer.json()["detail"]


async def test_a_key_that_existed_is_not_an_error(live):
    await beat(live, "writer")
    await live.client.get("/system/state")
    await live.client.delete("/agents/writer/instances/i1?namespace=prod")
    now = await place(live)
    asked = {"key": "prod/writer", "since": now}
    assert (await changes(live, **asked))["changes"] == []
    headers = EVENTS
    async with live.client.stream(
        "GET", "/system/changes", params=asked, headers=headers
    ) as response:
        assert response.status_code == 200
    assert (await live.client.get("/system/changes?key=prod/writer&sections=queues")).is_error


async def test_a_stream_may_resume_for_a_key_that_does_not_exist_yet(live):
    headers = EVENTS | {"last-event-id": await place(live)}
    path = "/system/changes?key=prod/planner"
    async with live.client.stream("GET", path, headers=headers) as response:
        told = events(response)
        await anext(told)
        await beat(live)
        answer = json.loads((await anext(told))["data"])
    assert [change["key"] for change in answer["changes"]] == ["prod/planner"]


async def test_late_measures_do_not_change_the_time_of_the_state(serving):
    clock = FakeClock()
    async with serving("", {"clock": clock}) as live:
        task = {"id": "t", "step": "plan", "progressed_at": "2030-01-01T00:00:00Z"}
        await beat(live, tasks=[task], interval_seconds=300)
        since = await place(live)
        task["progressed_at"] = "2030-01-01T00:01:00Z"
        await beat(live, tasks=[task], interval_seconds=300)
        clock.advance(1)
        await beat(live, tasks=[task | {"step": "write"}], interval_seconds=300)
        updated_at = (await live.client.get("/system/state")).json()["agents"][0]["updated_at"]
        await a_minute(clock)  # then the history records the latest sample
        await life(live, "agents/prod/planner")
        for measures in ("none", "levels", "all"):
            answer = await changes(live, since=since, sections="agents", measures=measures)
            (change,) = answer["changes"]
            assert change["at"] == updated_at
            assert (change["measured_at"] is None) == (measures != "all")
            lived = (await life(live, "agents/prod/planner", measures=measures)).json()
            assert lived["changes"][0]["at"] == change["at"]


async def test_next_contains_the_root_path(serving):
    async with serving("server: {root_path: /below}") as live:
        for step in ("plan", "write"):
            for name in ("a", "b"):
                await beat(live, name, tasks=[{"id": "t-1", "step": step}])
        for path in (
            "/system/changes?sections=agents&limit=1",
            "/system/history/agents/prod/a?limit=1",
        ):
            answer = (await live.client.get(path)).json()
            assert answer["next"].startswith("/below/system/")
            rest = await live.client.get(answer["next"].removeprefix("/below"))
            assert len(rest.json()["changes"]) == 1


async def test_a_place_in_the_future_is_a_410(live):
    epoch = (await place(live)).partition(".")[0]
    answer = await live.client.get(f"/system/changes?since={epoch}.999999")
    assert answer.status_code == 410


async def test_other_methods_and_media_types_are_refused(live):
    assert (await live.client.post("/system/changes")).status_code == 405
    image = await live.client.get("/system/changes", headers={"accept": "image/png"})
    assert image.status_code == 406


# streams


async def test_a_stream_sends_changes_from_now_on(live):
    await beat(live)
    now = await place(live)
    async with live.client.stream("GET", "/system/changes", headers=EVENTS) as response:
        assert response.headers["content-type"] == "text/event-stream"
        told = events(response)
        first = await anext(told)
        assert first.keys() == {"retry", "id"}
        assert first["id"] == now
        await beat(live, version="2")
        event = await anext(told)
        answer = json.loads(event["data"])
        assert event["id"] == answer["to"]
        assert answer["from"] == now
        (change,) = answer["changes"]
        assert change["fields"] == {"instances/i1/version": {"old": None, "new": "2"}}


async def test_a_stream_resumes_after_the_last_event(live):
    before = await place(live)
    await beat(live, "one")
    headers = EVENTS | {"last-event-id": before}
    async with live.client.stream(
        "GET", "/system/changes?sections=agents", headers=headers
    ) as response:
        told = events(response)
        await anext(told)
        event = await anext(told)
    await beat(live, "two")
    headers = EVENTS | {"last-event-id": event["id"]}
    async with live.client.stream(
        "GET", "/system/changes?sections=agents&since=0.1", headers=headers
    ) as response:
        told = events(response)
        await anext(told)
        answer = json.loads((await anext(told))["data"])
    assert [change["key"] for change in answer["changes"]] == ["prod/two"]


async def test_a_stream_skips_other_changes(live):
    await beat(live, "two")
    await live.client.delete("/agents/two/instances/i1?namespace=prod")
    since = await place(live)
    async with live.client.stream(
        "GET", f"/system/changes?key=prod/two&since={since}", headers=EVENTS
    ) as response:
        told = events(response)
        await anext(told)
        for number in range(5):
            await beat(live, "one", version=f"{number}")
        await beat(live, "two")
        answer = json.loads((await anext(told))["data"])
    assert [change["key"] for change in answer["changes"]] == ["prod/two"]


async def test_a_large_batch_continues_in_the_next_events(live):
    since = await place(live)
    names = [f"prod/agent-{number}" for number in range(7)]
    for name in names:
        await beat(live, name.removeprefix("prod/"))
    now = await place(live)
    path = f"{AGENTS}&since={since}&limit=3&measures=none"
    async with live.client.stream("GET", path, headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        pages = [await anext(told)]
        await beat(live, "agent-0", version="2")
        pages += [await anext(told), await anext(told)]
        answers = [json.loads(page["data"]) for page in pages]
        later = json.loads((await anext(told))["data"])
    assert [change["key"] for one in answers for change in one["changes"]] == names
    assert [(one["from"], one["to"]) for one in answers] == [(since, now)] * 3
    assert [one["truncated"] for one in answers] == [True, True, False]
    # A client that is cut off in between and resumes gets all of it again.
    assert [page["id"] for page in pages] == [since, since, now]
    assert later["from"] == now
    assert [change["change"] for change in later["changes"]] == ["changed"]


async def test_a_stream_from_an_unknown_place_is_refused(live):
    answer = await live.client.get("/system/changes?since=ab.1", headers=EVENTS)
    assert answer.status_code == 410


async def test_a_stream_that_resumes_at_an_unknown_place_gets_a_gap(live):
    now = await place(live)
    path = f"/system/changes?since={now}"  # a browser asks again with the same URL
    headers = EVENTS | {"last-event-id": "ab.1"}
    async with live.client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        told = events(response)
        assert (await anext(told))["id"] == "ab.1"
        gap = await anext(told)
        assert (gap["event"], gap["id"]) == ("gap", now)
        data = json.loads(gap["data"])
        assert (data["from"], data["to"], data["complete"]) == ("ab.1", now, False)
        assert data["lost"] == "epoch ab is not in the history"
        await beat(live)
        answer = json.loads((await anext(told))["data"])
        assert answer["from"] == now


@pytest.mark.parametrize("last", ["5m", "x"])
async def test_a_stream_resumes_only_after_an_event(live, last):
    headers = EVENTS | {"last-event-id": last}
    answer = await live.client.get("/system/changes", headers=headers)
    assert answer.status_code == 400
    assert "is not the id of an event" in answer.json()["detail"]


async def test_a_head_request_for_a_stream_has_no_body(live):
    answer = await live.client.head("/system/changes", headers=EVENTS)
    assert answer.headers["content-type"] == "text/event-stream"


async def test_streams_end_with_the_server(live):
    async with live.client.stream("GET", "/system/changes", headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        live.app.stop()
        assert [event async for event in told] == []


async def test_the_number_of_streams_is_limited(live):
    app = ChangesApp(live.app.service.store, live.app.service.history, max_streams=0)
    scope = {"method": "GET", "query_string": b"", "headers": [(b"accept", b"text/event-stream")]}
    with pytest.raises(HttpProblem) as raised:
        await app(scope, None, None, "/system/changes")
    assert raised.value.status == 503
    assert raised.value.headers["retry-after"]
