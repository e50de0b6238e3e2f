"""The endpoint of one task, also under attack."""

import asyncio
from urllib.parse import quote

import jsonschema_rs
import pytest

from telemetron.search import SearchResult, TaskSighting
from telemetron.web.pages.openapi import document
from telemetron.web.tasks import LOOK
from tests.telemetron.web.client import beat

SCHEMA = {"$ref": "#/components/schemas/Whereabouts"}


async def ready(live):
    """Heartbeats are complete only after the first ones had time to come."""
    live.app.service.store.sources["heartbeats"].confirm()
    live.app.service.store.flush()


async def ask(live, path):
    answer = await live.client.get(f"/system/tasks/{path}")
    if answer.status_code == 200:
        assert answer.headers["content-type"] == "application/json"
        made = document([], tokens=())
        whole = SCHEMA | {"components": made["components"]}
        jsonschema_rs.Draft202012Validator(whole).validate(answer.json())
    return answer


async def test_a_task_from_start_to_end(live):
    await ready(live)
    await beat(live, tasks=[{"id": "t", "step": "plan"}])
    assert (await ask(live, "t")).json()["active"][0]["step"] == "plan"
    await beat(live, last_failure={"task_id": "t", "error": "E"})
    answer = (await ask(live, "t")).json()
    assert (answer["where"], answer["ended"][0]["error"]) == ("ended", "E")
    assert [one["event"] for one in answer["timeline"]] == ["taken", "ended"]


@pytest.mark.parametrize("id", ["a/b", "a b", "ü", "a?b#c", "%41", "..", "."])
async def test_an_id_is_percent_encoded(live, id):
    await beat(live, tasks=[{"id": id}])
    answer = await ask(live, quote(id, safe="").replace(".", "%2E"))
    assert (answer.status_code, answer.json()["id"]) == (200, id)
    if "/" in id:
        assert (await ask(live, id)).json()["where"] == "active"


async def test_a_record_is_found_by_its_path(live):
    await beat(live, tasks=[{"id": "t", "queue": "a/b", "partition": 0, "offset": 7}])
    for path in ("a%2Fb/0/7", "a/b/0/7", "a%2Fb%2F0%2F7"):
        answer = (await ask(live, path)).json()
        assert (answer["where"], answer["active"][0]["offset"]) == ("active", 7)


async def test_an_unknown_task_is_404_with_the_nearest(live):
    await ready(live)
    await beat(live, tasks=[{"id": "research-7"}, {"id": "other"}])
    answer = await ask(live, "reserch-7")
    assert (answer.status_code, answer.json()["nearest"]) == (404, ["research-7"])
    assert "did you mean 'research-7'?" in answer.json()["detail"]


async def test_while_a_source_starts_a_task_is_unknown(live):
    await beat(live, tasks=[{"id": "research-7"}])
    answer = await ask(live, "reserch-7")
    assert answer.status_code == 200
    assert answer.json()["unchecked"] == [{"of": "heartbeats", "why": "it is starting"}]
    assert answer.json()["nearest"] == ["research-7"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 404),
        ("%00", 404),
        ("%0A%7F", 404),
        ("t%00", 404),
        ("x" * 10_000, 404),
        ("%ff%fe", 404),
        ("%", 404),
        ("..%2f..%2fetc%2fpasswd", 404),
        ("q/0/" + "9" * 18, 404),
        ("q/0/" + "9" * 400, 404),
        ("q/" + "9" * 9 + "/0", 404),
        ("t?look=-1", 400),
        ("t?look=50001", 400),
        ("t?look=", 400),
        ("t?look=1e3", 400),
        ("t?look=%D9%A1", 400),
        ("t?look=1&look=1", 400),
        ("t?at=5m", 400),
        ("t?look=50000", 404),
    ],
)
async def test_any_other_request_is_a_problem(live, path, status):
    await ready(live)
    answer = await ask(live, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 1024


async def test_head_has_no_body(live):
    await beat(live, tasks=[{"id": "t"}])
    answer = await live.client.head("/system/tasks/t")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100
    assert (await live.client.post("/system/tasks/t")).status_code == 405


async def test_it_needs_the_read_token(serving):
    async with serving("server: {auth: {read: r, write: w}}") as live:
        assert (await live.client.get("/system/tasks/t")).status_code == 401
        wrong = await live.client.get("/system/tasks/t", headers={"authorization": "Bearer w"})
        assert wrong.status_code == 403


async def test_a_search_is_asked_only_if_needed(live):
    asked = []

    async def search(query):
        asked.append(query)
        task = TaskSighting(
            queue="q", consumer_group="g", partition=0, offset=7, status="pending", ahead=3
        )
        return SearchResult(sightings=[task] if query.look or query.records else [])

    live.app.service.supervisor.searches.add("kafka", search)
    await beat(live, tasks=[{"id": "t"}])
    assert (await ask(live, "t")).json()["where"] == "active"
    assert asked == []
    answer = (await ask(live, "u")).json()
    assert (answer["where"], answer["waiting"][0]["ahead"]) == ("waiting", 3)
    assert (asked[0].id, asked[0].look) == ("u", LOOK)
    await ask(live, "u?look=12")
    assert asked[1].look == 12
    await ask(live, "u?look=0")
    assert len(asked) == 2


async def test_too_many_searches_are_503(live):
    searches = live.app.service.supervisor.searches
    gate = asyncio.Event()

    async def slow(query):
        await gate.wait()
        return SearchResult()

    searches.add("kafka", slow)
    many = [asyncio.create_task(live.client.get(f"/system/tasks/u{n}")) for n in range(30)]
    answers = [await one for one in asyncio.as_completed(many)]
    statuses = [one.status_code for one in answers]
    assert 503 in statuses
    busy = next(one for one in answers if one.status_code == 503)
    assert busy.headers["retry-after"] == "2"
    gate.set()


async def test_a_busy_history_is_one_of_the_doubts(live, monkeypatch):
    from telemetron.history.history import BusyError

    async def busy(query, timeout):
        raise BusyError("busy")

    monkeypatch.setattr(live.app.service.history, "ask", busy)
    await ready(live)
    await beat(live, tasks=[{"id": "t"}])
    assert (await ask(live, "t")).json()["where"] == "active"
    answer = (await ask(live, "nope")).json()
    assert {"of": "history", "why": "it did not answer in time"} in answer["unchecked"]
