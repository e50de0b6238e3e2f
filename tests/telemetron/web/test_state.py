import asyncio
import gzip
import json
import time
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest

from telemetron.document import State
from tests.telemetron.web.client import beat


def place(answer):
    return answer.headers["etag"].removeprefix('W/"').removesuffix('"')


async def test_an_empty_system_has_all_sections_and_sources(live):
    state = (await live.client.get("/system/state")).json()
    assert list(state) == [
        "id",
        "schema_version",
        "epoch",
        "revision",
        "started_at",
        "changed_at",
        "sources",
        "findings",
        "agents",
        "litellm",
        "queues",
        "workload",
    ]
    sections = ("findings", "agents", "litellm", "queues", "workload")
    assert [state[name] for name in sections] == [[], [], [], [], []]
    statuses = {row["key"]: row["status"] for row in state["sources"]}
    assert statuses == {
        "findings": "ok",
        "heartbeats": "starting",
        "kafka": "off",
        "kubernetes": "off",
        "litellm": "off",
        "rabbitmq": "off",
    }
    assert not [a for a in state["agents"] if len(a["activity"]) > a["max_parallel_invocations"]]


async def test_a_heartbeat_is_in_the_next_answer(live):
    for number in range(20):
        await asyncio.sleep(0.03)  # longer than changes are ever held back
        body = {"instance": "i1", "tasks": [{"id": f"t-{number}"}]}
        await live.client.post("/agents/planner/heartbeat", json=body)
        (agent,) = (await live.client.get("/system/state")).json()["agents"]
        assert [t["id"] for t in agent["activity"]["active_task_ids"]] == [f"t-{number}"]


async def test_equal_content_has_equal_bytes(live):
    await beat(live, tasks=[{"id": "t"}])
    first = await live.client.get("/system/state")
    for _ in range(5):
        await beat(live, tasks=[{"id": "t"}])
    second = await live.client.get("/system/state")
    assert second.content == first.content
    assert second.headers["etag"] == first.headers["etag"]


async def test_the_etag_is_the_revision_and_answers_304(live):
    first = await live.client.get("/system/state")
    state = first.json()
    assert first.headers["etag"] == f'W/"{state["epoch"]}.{state["revision"]}"'
    for known in (first.headers["etag"], "*", f'"x", {first.headers["etag"][2:]}'):
        again = await live.client.get("/system/state", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    await beat(live)
    changed = await live.client.get(
        "/system/state", headers={"if-none-match": first.headers["etag"]}
    )
    assert changed.status_code == 200
    assert changed.json()["revision"] > state["revision"]


async def test_the_document_fits_its_types(live):
    await beat(live, tasks=[{"id": "t", "waits": [{"kind": "llm", "name": "m"}]}])
    answer = await live.client.get("/system/state")
    state = msgspec.json.decode(answer.content, type=State)
    assert [agent.key for agent in state.agents] == ["prod/planner"]


async def test_head_has_the_headers_and_no_body(live):
    await beat(live, description="d" * 900)
    got = await live.client.get("/system/state")
    head = await live.client.head("/system/state")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(got.content))
    assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_405_with_allow(live, method):
    answer = await live.client.request(method, "/system/state")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_gzip_if_it_is_accepted(live):
    await beat(live, description="words " * 100)
    plain = await live.client.get("/system/state")
    async with live.client.stream(
        "GET", "/system/state", headers={"accept-encoding": "br, gzip;q=0.5"}
    ) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content)
    refused = await live.client.get("/system/state", headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


# views


async def test_sections_selects_sections(live):
    await beat(live)
    state = (await live.client.get("/system/state?sections=queues,agents")).json()
    assert list(state)[6:] == ["sources", "agents", "queues"]
    only = (await live.client.get("/system/state?sections=sources")).json()
    assert list(only)[6:] == ["sources"]


async def test_a_section_and_an_entity_have_their_own_revision(live):
    await beat(live, "planner")
    planner = await live.client.get("/system/state/agents/prod/planner")
    await beat(live, "planner", namespace="other")  # another entity, the same source count
    await beat(live, "planner", namespace="other", version="2")
    again = await live.client.get("/system/state/agents/prod/planner")
    assert [agent["key"] for agent in again.json()["agents"]] == ["prod/planner"]
    section = await live.client.get("/system/state/agents")
    whole = await live.client.get("/system/state")
    assert planner.json()["revision"] <= again.json()["revision"] < section.json()["revision"]
    assert section.json()["revision"] == whole.json()["revision"]
    assert section.headers["etag"] == whole.headers["etag"]
    assert (await live.client.get("/system/state/queues")).json()["queues"] == []


async def test_a_key_may_be_percent_encoded(live):
    await beat(live, "a%2Fb", namespace="x y")
    plain = await live.client.get("/system/state/agents/x%20y/a~1b")
    encoded = await live.client.get("/system/state/agents/x%20y%2Fa~1b")
    assert plain.status_code == encoded.status_code == 200
    assert plain.json()["agents"][0]["name"] == "a/b"
    assert plain.content == encoded.content


async def test_a_source_row_can_be_asked_for(live):
    state = (await live.client.get("/system/state/sources/kafka")).json()
    assert [row["key"] for row in state["sources"]] == ["kafka"]
    assert list(state)[6:] == ["sources"]


@pytest.mark.parametrize(
    ("key", "near"),
    [("prod/planer", "prod/planner"), ("planner", "prod/planner"), ("elsewhere/planner", "prod/")],
)
async def test_an_unknown_key_gets_similar_ones(live, key, near):
    await beat(live, "planner")
    await beat(live, "writer")
    answer = await live.client.get(f"/system/state/agents/{key}")
    assert answer.status_code == 404
    assert near in answer.json()["detail"]
    assert answer.json()["nearest"][0].startswith(near)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/system/state/nope", 404, "sources, findings, agents"),
        ("/system/state?sections=agents,nope", 400, "sources, findings, agents"),
        ("/system/state?sections=", 400, "no section ''"),
        ("/system/state?section=agents", 400, "known: sections, at, since, wait, measures"),
        ("/system/state/agents?sections=agents", 400, "known: at, since, wait, measures"),
        ("/system/state?since=0.1&wait=61s", 400, "at most 60s"),
        ("/system/state?since=0.1&wait=soon", 400, "duration"),
        ("/system/state?since=0.1&measures=yes", 400, "true or false"),
        ("/system/state?since=banana&wait=30s", 400, "since: expected a place"),
        ("/system/state?since=&wait=30s", 400, "since: expected a place"),
        ("/system/state?since=W/1a.3&wait=30s", 400, "since: expected a place"),
        ("/system/state/agents?since=30", 400, "an age such as 30s, 5m, 2h or 1d; got '30'"),
        ("/system/state?wait=soon", 400, "duration"),
        ("/system/state?since=x&since=y", 400, "twice"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_what_can(live, path, status, said):
    answer = await live.client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


# long polls


async def test_without_since_there_is_no_wait(live):
    started = time.monotonic()
    answer = await live.client.get("/system/state?wait=30s&measures=true")
    assert answer.status_code == 200
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("since", ["0.1", "{epoch}.999999", "5m"])
async def test_an_unknown_or_future_place_is_answered_at_once(live, since):
    epoch = (await live.client.get("/system/state")).json()["epoch"]
    started = time.monotonic()
    answer = await live.client.get(
        "/system/state", params={"since": since.format(epoch=epoch), "wait": "30s"}
    )
    assert answer.status_code == 200
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("form", ['W/"{}"', '"{}"', "{}", '"{}-gzip"', 'W/"{}-gzip"'])
async def test_since_accepts_an_etag(live, form):
    since = form.format(place(await live.client.get("/system/state")))
    answer = await live.client.get("/system/state", params={"since": since, "wait": "50ms"})
    assert answer.status_code == 304


async def test_since_accepts_a_time(live):
    await beat(live)
    await live.client.get("/system/state")
    asked = {"since": "0s", "wait": "50ms"}
    assert (await live.client.get("/system/state", params=asked)).status_code == 304
    asked["since"] = "2000-01-01T00:00:00Z"
    assert (await live.client.get("/system/state", params=asked)).status_code == 200


@pytest.mark.parametrize("query", ["since=5m&", "since=0.1&", "", "since={old}&", "at=0s&"])
async def test_a_request_with_a_wait_cannot_become_a_busy_loop(live, query):
    old = place(await live.client.get("/system/state"))
    await beat(live)
    path = f"/system/state?{query.format(old=old)}wait=30s"
    await live.client.get(path)
    answered = 1
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                await live.client.get(path)
                answered += 1
    assert answered <= 40  # of many hundreds


async def test_lines_of_a_header_are_one_list(live):
    etag = (await live.client.get("/system/state")).headers["etag"]
    for path in ("/system/state", "/openapi.json"):
        etag = (await live.client.get(path)).headers["etag"]
        for values in (['"x"', etag], [etag, '"x"'], [f'"x", {etag}'], ['"x"', "*"]):
            lines = [("if-none-match", value) for value in values]
            assert (await live.client.get(path, headers=lines)).status_code == 304, values
        assert (await live.client.get(path, headers={"if-none-match": '"x"'})).status_code == 200


async def test_sections_may_be_repeated(live):
    once = await live.client.get("/system/state?sections=agents,queues")
    twice = await live.client.get("/system/state?sections=agents&sections=queues")
    assert twice.content == once.content


async def test_since_alone_does_not_wait(live):
    await beat(live)
    first = await live.client.get("/system/state")
    same = await live.client.get("/system/state", params={"since": place(first)})
    assert (same.status_code, same.headers["etag"]) == (304, first.headers["etag"])
    await beat(live, version="2")
    newer = await live.client.get("/system/state", params={"since": place(first)})
    assert newer.status_code == 200


async def test_a_wait_ends_with_304(live):
    await beat(live)
    first = await live.client.get("/system/state")
    started = time.monotonic()
    answer = await live.client.get("/system/state", params={"since": place(first), "wait": "200ms"})
    assert answer.status_code == 304
    assert time.monotonic() - started >= 0.2
    assert len(live.app.waiters) == 0


async def until(true):
    """Let the loop go round until it is true."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  the waiters have no event for those who watch them
            await asyncio.sleep(0)


async def waiting(live, path, since, wait="20s", **params):
    """A long poll that has begun to wait."""
    before = len(live.app.waiters)
    poll = asyncio.create_task(
        live.client.get(path, params={"since": since, "wait": wait, **params}, timeout=30)
    )
    await until(lambda: len(live.app.waiters) > before or poll.done())
    return poll


async def test_a_change_wakes_long_polls_of_its_view(live):
    await beat(live)
    since = place(await live.client.get("/system/state"))
    whole = await waiting(live, "/system/state", since)
    section = await waiting(live, "/system/state/agents", since)
    entity = await waiting(live, "/system/state/agents/prod/planner", since)
    queues = await waiting(live, "/system/state/queues", since, wait="1500ms")
    await beat(live, version="2")
    for poll in (whole, section, entity):
        answer = await poll
        assert answer.status_code == 200
        assert answer.json()["agents"][0]["instances"][0]["version"] == "2"
    assert (await queues).status_code == 304


async def test_measures_wake_only_with_measures_true(live):
    task = {"id": "t", "progressed_at": "2030-01-01T00:00:00Z"}
    await beat(live, tasks=[task])
    first = await live.client.get("/system/state")
    patient = await waiting(live, "/system/state", place(first), wait="1500ms")
    curious = await waiting(live, "/system/state", place(first), measures="true")
    await beat(live, tasks=[task | {"progressed_at": "2030-01-01T00:00:01Z"}])
    answer = await curious
    assert answer.json()["revision"] == first.json()["revision"] + 1
    assert answer.json()["agents"][0]["updated_at"] == first.json()["agents"][0]["updated_at"]
    assert (await patient).status_code == 304


async def test_a_place_is_answered_at_least_a_second_after_it_arose(live):
    await beat(live, version="0")
    known = await live.client.get("/system/state")
    for version in ("1", "2", "3"):
        await beat(live, version=version)
        answer = await live.client.get(
            "/system/state", params={"since": place(known), "wait": "10s"}
        )
        assert answer.json()["agents"][0]["instances"][0]["version"] == version
        arose = datetime.fromisoformat(known.json()["changed_at"])
        assert (datetime.now(UTC) - arose).total_seconds() >= 0.99
        known = answer


async def test_an_entity_that_goes_ends_its_long_polls_with_404(live):
    await beat(live, "planner", boot_id="b")
    await beat(live, "writer")
    since = place(await live.client.get("/system/state"))
    poll = await waiting(live, "/system/state/agents/prod/planner", since)
    gone = await live.client.delete("/agents/planner/instances/i1")
    assert gone.status_code == 204
    assert (await poll).status_code == 404


async def test_a_disconnect_ends_the_wait(live):
    await beat(live)
    poll = await waiting(live, "/system/state", place(await live.client.get("/system/state")))
    assert len(live.app.waiters) == 1
    poll.cancel()
    await until(lambda: not len(live.app.waiters))


async def test_a_stop_ends_long_polls_properly(serving):
    async with serving() as live:
        await beat(live)
        since = place(await live.client.get("/system/state"))
        poll = await waiting(live, "/system/state", since)
        live.app.stop()
        assert (await poll).status_code == 304


# the published one-liners


async def test_the_diff_of_an_unchanged_system_is_empty(live):
    await beat(live, tasks=[{"id": "t"}])
    first, second = [json.loads((await live.client.get("/system/state")).text) for _ in range(2)]
    assert json.dumps(first, indent=2) == json.dumps(second, indent=2)
    tasks = [t for a in first["agents"] for t in a["activity"]["active_task_ids"]]
    assert len(tasks) == 1
    assert [t for q in first["queues"] for t in q["tasks"]] == []
