"""Changes, the past, lives and streams, over HTTP from a real server."""

import asyncio
import json
import socket
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from telemetron.history import queries, recorder
from telemetron.history.history import BusyError
from telemetron.history.limits import HistoryLimits
from telemetron.web import changes as module
from telemetron.web import streams

AGENTS = "/system/changes?sections=agents"
EVENTS = {"accept": "text/event-stream"}


async def beat(live, name="planner", **fields):
    body = {"instance": "i1", "namespace": "prod"} | fields
    answer = await live.client.post(f"/agents/{name}/heartbeat", json=body)
    assert answer.status_code == 204, answer.text
    live.app.service.store.flush()  # else it may be seen up to 25 ms later


async def place(live):
    answer = await live.client.get("/system/state")
    return answer.headers["etag"].removeprefix('W/"').removesuffix('"')


async def changes(live, **asked):
    answer = await live.client.get("/system/changes", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def life(live, key, **asked):
    return await live.client.get(f"/system/history/{key}", params=asked)


async def test_an_agent_that_came_changed_and_went_is_told(live):
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
    changed = await changes(live, since=came["to"], sections="agents")
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


async def test_what_is_asked_for_now_is_in_the_answer(live):
    since = await place(live)
    for number in range(20):
        await beat(live, f"agent-{number}")
        found = await changes(live, since=since, key=f"prod/agent-{number}")
        assert [change["key"] for change in found["changes"]] == [f"prod/agent-{number}"]


async def test_an_answer_that_does_not_hold_all_says_where_it_goes_on(live):
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


async def test_the_past_is_the_document_then(live):
    await beat(live, tasks=[{"id": "t-1"}])
    # Levels are recorded 10 s apart: the count of entities stands.
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


async def test_measures_that_are_recorded_later_make_the_past_another(live, monkeypatch):
    monkeypatch.setitem(recorder.PERIODS, "sample", 0.2)
    for minute in range(2):
        await beat(live, tasks=[{"id": "t", "progressed_at": f"2030-01-01T00:0{minute}:00Z"}])
    at = await place(live)
    later = f"{at}-1"
    path = f"{AGENTS.replace('changes', 'state')}&at={{}}"
    first = await live.client.get(path.format(at))
    await until_known(live, later)
    known = {"if-none-match": first.headers["etag"]}
    second = await live.client.get(path.format(later), headers=known)
    assert second.status_code == 200
    assert second.headers["etag"] == f'W/"{later}"'
    assert second.json()["agents"] != first.json()["agents"]
    known = {"if-none-match": second.headers["etag"]}
    assert (await live.client.get(path.format(later), headers=known)).status_code == 304


async def until_known(live, place):
    async with asyncio.timeout(10):
        while (await live.client.get(f"/system/state?at={place}")).status_code == 410:
            pass


async def test_the_future_is_not_known(live):
    def at(**ahead):
        return (datetime.now(UTC) + timedelta(**ahead)).isoformat().replace("+00:00", "Z")

    await beat(live)
    answer = await live.client.get(f"/system/state?at={at(minutes=1)}")
    assert answer.status_code == 400
    assert "in the future; now is" in answer.json()["detail"]
    # The reader's clock may be a little ahead.
    answer = await live.client.get(f"/system/state?at={at(seconds=0.5)}")
    assert answer.json()["agents"]


async def test_the_past_before_an_entity_does_not_have_it(live):
    before = await place(live)
    await beat(live)
    for path in ("/system/state", "/system/state/agents"):
        assert (await live.client.get(f"{path}?at={before}")).json()["agents"] == []
    gone = await live.client.get(f"/system/state/agents/prod/planner?at={before}")
    assert gone.status_code == 404


async def test_a_life_is_told_newest_first_in_pages(live):
    for step in ("one", "two", "three"):
        await beat(live, tasks=[{"id": "t", "step": step}])
        await place(live)
    first = (await life(live, "agents/prod/planner", limit=2)).json()
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
        ("/system/changes?since=ab.1", 410, "the oldest place that can be asked for is"),
        ("/system/changes?since=", 400, "since: expected a place"),
        ("/system/changes?since=0.1&until=banana", 400, "until: expected a place"),
        ("/system/changes?since=0.1&since=0.2", 400, "comes twice"),
        ("/system/changes?after=agents", 400, "after: expected SECTION/KEY"),
        ("/system/state?at=5m", 410, "the history does not reach back to that time"),
        ("/system/state?at=", 400, "at: expected a place"),
        ("/system/history/agents/nobody?before=banana", 400, "before: expected a place"),
        ("/system/history/agents/nobody?before=0s", 404, "no 'nobody' in agents"),
        ("/system/changes?since=0.1&sections=agent", 400, "no section 'agent'"),
        ("/system/changes?since=0.1&measures=some", 400, "measures takes none, levels, all"),
        ("/system/changes?since=0.1&limit=0", 400, "limit takes 1 to 1,000"),
        ("/system/changes?since=0.1&limit=0000000019999", 400, "limit takes 1 to 1,000"),
        (f"/system/changes?since=0.1&limit=1{'9' * 5000}", 400, "limit takes 1 to 1,000"),
        ("/system/changes?from=0.1", 400, "known: since, until"),
        ("/system/state?at=yesterday", 400, "expected a place"),
        ("/system/state?at=ab.1", 410, "epoch ab is not in the history"),
        ("/system/history/agents/nobody", 404, "no 'nobody' in agents"),
        ("/system/history/agent/nobody", 404, "no section 'agent'"),
    ],
)
async def test_what_cannot_be_answered_is_said(live, path, status, detail):
    answer = await live.client.get(path)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]
    if status == 410:
        oldest = answer.json()["oldest"]
        assert (await live.client.get(f"/system/changes?since={oldest}")).status_code == 200


@pytest.mark.parametrize("since", ["5m", "2000-01-01T00:00:00Z", "999999d"])
async def test_a_time_before_all_that_is_kept_means_the_oldest_place(live, since):
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


async def test_an_etag_is_a_place_as_it_is(live):
    etag = (await live.client.get("/system/state")).headers["etag"]
    await beat(live)
    for since in (etag, etag[2:], etag[3:-1], etag[:-1] + '-gzip"'):
        answer = await changes(live, since=since, until=since, sections="agents")
        assert answer["from"] == answer["to"] == etag[3:-1]
        past = await live.client.get("/system/state", params={"at": since})
        assert past.headers["etag"] == etag


async def test_sections_may_come_several_times(live):
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
async def test_a_wrong_key_is_an_error_that_names_the_nearest(live, path, accept):
    await beat(live, "writer")
    answer = await live.client.get(path, headers={"accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["nearest"][0] == "prod/writer"
    assert "did you mean prod/writer?" in answer.json()["detail"]


async def test_a_key_that_was_known_is_none(live):
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


async def test_a_reader_that_resumes_may_ask_for_a_key_that_is_not_there_yet(live):
    headers = EVENTS | {"last-event-id": await place(live)}
    path = "/system/changes?key=prod/planner"
    async with live.client.stream("GET", path, headers=headers) as response:
        told = events(response)
        await anext(told)
        await beat(live)
        answer = json.loads((await anext(told))["data"])
    assert [change["key"] for change in answer["changes"]] == ["prod/planner"]


async def test_measures_that_are_recorded_late_do_not_stamp_the_state(live, monkeypatch):
    monkeypatch.setitem(recorder.PERIODS, "sample", 0.3)
    task = {"id": "t", "step": "plan", "progressed_at": "2030-01-01T00:00:00Z"}
    await beat(live, tasks=[task])
    since = await place(live)
    await beat(live, tasks=[task | {"progressed_at": "2030-01-01T00:01:00Z"}])
    await beat(live, tasks=[task | {"step": "write", "progressed_at": "2030-01-01T00:01:00Z"}])
    updated_at = (await live.client.get("/system/state")).json()["agents"][0]["updated_at"]
    await asyncio.sleep(0.4)  # what is late is recorded by now
    for measures in ("none", "levels", "all"):
        answer = await changes(live, since=since, sections="agents", measures=measures)
        (change,) = answer["changes"]
        at, moment = map(datetime.fromisoformat, (change["at"], updated_at))
        assert abs(at - moment) <= timedelta(milliseconds=1)
        assert (change["measured_at"] is None) == (measures != "all")
        lived = (await life(live, "agents/prod/planner", measures=measures)).json()
        assert lived["changes"][0]["at"] == change["at"]


async def test_what_is_gone_takes_one_question(live, monkeypatch):
    """A second one, for the oldest place, could be refused where many ask."""
    asked = []
    ask = live.app.service.history.ask

    async def counted(question):
        asked.append(question)
        return await ask(question)

    monkeypatch.setattr(live.app.service.history, "ask", counted)
    answer = await live.client.get("/system/changes?since=ab.1")
    assert (answer.status_code, len(asked)) == (410, 1)
    assert answer.json()["oldest"]


async def test_the_rest_is_asked_for_through_the_proxy(serving):
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


async def test_a_place_ahead_of_now_is_not_guessed(live):
    epoch = (await place(live)).partition(".")[0]
    answer = await live.client.get(f"/system/changes?since={epoch}.999999")
    assert answer.status_code == 410


async def test_only_reading_and_known_media_types(live):
    assert (await live.client.post("/system/changes")).status_code == 405
    image = await live.client.get("/system/changes", headers={"accept": "image/png"})
    assert image.status_code == 406


# streams


async def events(response):
    """Each event as a dict of its fields; a comment under `""`."""
    event = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        else:
            yield event
            event = {}


async def until(true):
    """For what tells nobody."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_stream_tells_what_changes_from_now_on(live):
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


async def test_a_stream_goes_on_after_the_last_event(live):
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


async def test_a_stream_leaves_out_what_is_not_asked_for_and_moves_on(live):
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


async def test_a_stream_tells_what_does_not_fit_into_one_event_in_the_next(live):
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
    # Who is cut off in between and resumes is told all of it again.
    assert [page["id"] for page in pages] == [since, since, now]
    assert later["from"] == now
    assert [change["change"] for change in later["changes"]] == ["changed"]


async def test_readers_at_one_place_are_told_the_same(live):
    since = await place(live)

    async def read():
        async with live.client.stream(
            "GET", f"/system/changes?since={since}", headers=EVENTS
        ) as response:
            told = events(response)
            await anext(told)
            return (await anext(told))["data"]

    reading = [asyncio.create_task(read()) for _ in range(20)]
    streams = live.app.changes.streams
    await until(lambda: len(streams) == 20)
    await beat(live)
    assert len(set(await asyncio.gather(*reading))) == 1


async def test_a_stream_from_what_is_not_kept_is_refused(live):
    answer = await live.client.get("/system/changes?since=ab.1", headers=EVENTS)
    assert answer.status_code == 410


async def test_a_stream_that_resumes_from_what_is_not_kept_is_told_of_the_gap(live):
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
async def test_a_stream_resumes_after_an_event_alone(live, last):
    headers = EVENTS | {"last-event-id": last}
    answer = await live.client.get("/system/changes", headers=headers)
    assert answer.status_code == 400
    assert "is not the id of an event" in answer.json()["detail"]


async def test_a_head_of_a_stream_has_no_body(live):
    answer = await live.client.head("/system/changes", headers=EVENTS)
    assert answer.headers["content-type"] == "text/event-stream"


async def test_streams_end_with_the_server(live):
    async with live.client.stream("GET", "/system/changes", headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        live.app.stop()
        assert [event async for event in told] == []


async def test_a_reader_that_leaves_is_forgotten(live):
    async with live.client.stream("GET", "/system/changes", headers=EVENTS) as response:
        await anext(events(response))
        assert len(live.app.changes.streams) == 1
    await until(lambda: len(live.app.changes.streams) == 0)


async def test_a_comment_says_that_the_stream_is_still_there(live, monkeypatch):
    monkeypatch.setattr(streams, "COMMENT_SECONDS", 0.05)
    now = await place(live)
    async with live.client.stream("GET", "/system/changes", headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        assert await anext(told) == {"": "still here", "id": now}


async def test_streams_are_bounded(live, monkeypatch):
    monkeypatch.setattr(module, "MAX_STREAMS", 0)
    answer = await live.client.get("/system/changes", headers=EVENTS)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_a_reader_is_told_of_a_gap(serving, monkeypatch):
    # Nothing is at hand, everything is too old at once, and events are far apart.
    limits = HistoryLimits(recent_weight=0, open_weight=1)
    monkeypatch.setattr(streams, "GAP_SECONDS", 0.5)
    async with (
        serving("history: {max_age_hours: 0.00001}", {"history_limits": limits}) as live,
        live.client.stream("GET", "/system/changes", headers=EVENTS) as response,
    ):
        told = events(response)
        await anext(told)
        await beat(live, version="0")
        first = await anext(told)
        for version in range(1, 5):
            await asyncio.sleep(0.05)
            await beat(live, version=f"{version}")
        gap = await anext(told)
        assert gap["event"] == "gap"
        data = json.loads(gap["data"])
        assert (data["from"], data["to"]) == (first["id"], gap["id"])
        assert not data["complete"]
        await beat(live, version="after")
        answer = json.loads((await anext(told))["data"])
        assert answer["from"] == gap["id"]


async def test_a_history_that_does_not_answer_is_said(live, monkeypatch):
    async def busy(question):
        raise BusyError("it cannot answer now")

    monkeypatch.setattr(live.app.service.history, "ask", busy)
    answer = await live.client.get("/system/changes")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


# many readers


class Past:
    """A history that fails for some, whose old answers take long, and that says who asked."""

    def __init__(self, live, monkeypatch):
        self.asked = []
        self.failing = {}
        self.slow = threading.Event()
        after = queries.news

        def recorded(timeline, asked):
            self.asked.append(asked)
            if error := self.failing.get(asked.key):
                raise error
            if asked.since.startswith("ab."):
                self.slow.wait(0.05)
            return after(timeline, asked)

        monkeypatch.setattr(queries, "news", recorded)


@pytest.fixture
def past(live, monkeypatch):
    found = Past(live, monkeypatch)
    yield found
    found.slow.set()


async def first(live, path, **headers):
    """The first event that tells something."""
    async with live.client.stream("GET", path, headers=EVENTS | headers) as response:
        async for event in events(response):
            if "data" in event:
                return event
    return None


@pytest.mark.parametrize("error", [RuntimeError("wrong"), OSError("the disk is gone")])
async def test_whose_answer_fails_keeps_up_nobody_else_and_is_told_later(
    live, past, monkeypatch, error
):
    monkeypatch.setattr(streams, "RETRY_SECONDS", 0.1)
    past.failing["prod/two"] = error
    for name in ("one", "two"):
        await beat(live, name)
    since = await place(live)
    asked = f"{AGENTS}&since={since}&key=prod/"
    waiting = live.app.changes.streams
    telling = asyncio.create_task(first(live, f"{asked}one"))
    await until(lambda: len(waiting) == 1)
    failing = asyncio.create_task(first(live, f"{asked}two"))
    await until(lambda: len(waiting) == 2)
    await beat(live, "two", version="2")
    await beat(live, "one", version="2")
    async with asyncio.timeout(5):
        found = await telling
    assert [one["key"] for one in json.loads(found["data"])["changes"]] == ["prod/one"]
    await until(lambda: sum(one.key == "prod/two" for one in past.asked) >= 3)
    assert not failing.done()
    past.failing.clear()
    found = await failing
    assert [one["key"] for one in json.loads(found["data"])["changes"]] == ["prod/two"]


async def test_those_at_the_newest_place_do_not_wait_for_all_that_come_from_long_ago(
    live, past, monkeypatch
):
    monkeypatch.setattr(streams, "ROUND_SECONDS", 0.1)
    old = [
        asyncio.create_task(
            first(live, f"/system/changes?key={number}", **{"last-event-id": f"ab.{number + 1}"})
        )
        for number in range(60)
    ]
    await beat(live, "new")
    now = await place(live)
    new = asyncio.create_task(first(live, f"/system/changes?key=prod/new&since={now}"))
    await until(lambda: len(live.app.changes.streams) >= 40)
    await beat(live, "new", version="2")
    answer = json.loads((await new)["data"])
    assert [one["key"] for one in answer["changes"]] == ["prod/new"]
    assert sum(one.done() for one in old) < 40
    past.slow.set()
    assert {event["event"] for event in await asyncio.gather(*old)} == {"gap"}


def unread(live):
    """A stream of which nothing is read yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", int(live.url.rpartition(":")[2])))
    sock.sendall(
        f"GET {AGENTS} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n".encode()
    )
    sock.setblocking(False)
    return sock


async def tell(live, told, version):
    """Make an event of about 256 KB, and see somebody else get it."""
    tasks = [{"id": f"t-{n}", "step": f"{version:04}" + "x" * 450} for n in range(256)]
    await beat(live, tasks=tasks, version=f"{version}")
    return json.loads((await anext(told))["data"])["to"]


async def test_readers_that_read_nothing_share_the_bytes_of_an_event(live):
    streams, holding = live.app.changes.streams, live.app.readers.holding
    async with live.client.stream("GET", AGENTS, headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        with closing(unread(live)), closing(unread(live)):
            await until(lambda: len(streams) == 3)
            version = 0
            while len(holding) < 2:
                version += 1
                assert version < 20
                await tell(live, told, version)
            (one,), (two,) = holding.values()
            assert one is two
        await until(lambda: not holding)


async def test_a_slow_reader_is_told_less_often_of_more_and_ends_where_the_others_are(live):
    async with live.client.stream("GET", AGENTS, headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        with closing(unread(live)) as slow:
            await until(lambda: len(live.app.changes.streams) == 2)
            for version in range(30):
                last = await tell(live, told, version)
            answers = [one async for one in answers_until(slow, last)]
    assert 2 <= len(answers) < 20
    assert [one["from"] for one in answers[1:]] == [one["to"] for one in answers[:-1]]
    (change,) = answers[-1]["changes"]
    version = change["fields"]["instances/i1/version"]
    assert int(version["old"]) < 20
    assert version["new"] == "29"


async def answers_until(sock, last):
    """What a stream tells up to the place."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**22)
    to = None
    async with asyncio.timeout(20):
        while to != last:
            line = await reader.readline()
            if line.startswith(b"data: "):
                answer = json.loads(line[6:])
                to = answer["to"]
                yield answer
    writer.close()
