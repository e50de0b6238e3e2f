import asyncio
import json
import math

import pytest

from telemetron.agents import AgentPart
from telemetron.answers.brief.brief import Question
from telemetron.document import Instance
from telemetron.history.history import BusyError, History
from telemetron.http import HttpProblem
from telemetron.store.store import Store
from telemetron.web.brief import Asked, Briefs
from tests.telemetron.web.client import beat

BRIEF = "/system/brief"
TASK = {"id": "t-1", "step": "plans", "queue": "orders"}


async def test_a_brief_is_of_the_current_revision(live):
    await beat(live, tasks=[TASK])
    found = (await live.client.get(BRIEF)).json()
    snapshot = live.app.service.store.snapshot
    assert found["place"] == f"{snapshot.epoch}.{snapshot.change.revision}"
    assert found["well"]["agents"] == 1
    off = ("kafka", "kubernetes", "litellm", "rabbitmq")
    assert found["not_observed"] == dict.fromkeys(off, "off")


async def test_equal_requests_have_equal_bytes_and_an_etag(live):
    await beat(live)
    first, second = [await live.client.get(BRIEF) for _ in range(2)]
    assert (first.content, first.headers["etag"]) == (second.content, second.headers["etag"])
    known = {"if-none-match": first.headers["etag"]}
    assert (await live.client.get(BRIEF, headers=known)).status_code == 304
    assert (await live.client.get(f"{BRIEF}?max_tokens=500", headers=known)).status_code == 200
    markdown = known | {"accept": "text/markdown"}
    assert (await live.client.get(BRIEF, headers=markdown)).status_code == 200
    await beat(live, name="writer")
    assert (await live.client.get(BRIEF, headers=known)).status_code == 200


async def test_markdown_is_for_people(live):
    await beat(live)
    answer = await live.client.get(BRIEF, headers={"accept": "text/markdown"})
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert "\n- verdict: " in answer.text


async def test_other_media_types_are_refused(live):
    answer = await live.client.get(BRIEF, headers={"accept": "text/html"})
    assert answer.status_code == 406
    assert "application/json or text/markdown" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("max_tokens=199", "max_tokens: expected 200 to 10,000; got '199'"),
        ("max_tokens=10001", "max_tokens: expected 200 to 10,000; got '10001'"),
        ("max_tokens=many", "max_tokens: expected 200 to 10,000; got 'many'"),
        ("max_tokens=300.5", "max_tokens: expected a whole number; got 300.5"),
        ("bytes_per_token=0.5", "bytes_per_token: expected 1.5 to 6.0; got '0.5'"),
        ("bytes_per_token=6.000000000000001", "bytes_per_token: expected 1.5 to 6.0; got"),
        ("bytes_per_token=1e999", "bytes_per_token: expected 1.5 to 6.0; got '1e999'"),
        ("bytes_per_token=nan", "bytes_per_token: expected 1.5 to 6.0; got 'nan'"),
        ("bytes_per_token=2_0", "bytes_per_token: expected 1.5 to 6.0; got '2_0'"),
        ("about=", "about: expected a key, a name or an id; got ''"),
        ("limit=3", "unknown query parameter 'limit'; known: max_tokens, about, bytes_per_token"),
    ],
)
async def test_a_wrong_parameter_is_named_with_its_bounds(live, query, expected):
    answer = await live.client.get(f"{BRIEF}?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(expected)


@pytest.mark.parametrize(
    ("query", "same_as"),
    [
        ("bytes_per_token=5.93314970783253", "bytes_per_token=5.93314970783253"),
        ("bytes_per_token=15e-1", "bytes_per_token=1.5"),
        ("bytes_per_token=0.2E%2B1", "bytes_per_token=2"),
        ("max_tokens=1e3", "max_tokens=1000"),
        ("max_tokens=1000.0", "max_tokens=1000"),
    ],
)
async def test_a_number_may_be_written_in_every_way_of_json(live, query, same_as):
    await beat(live)
    answer, same = [await live.client.get(f"{BRIEF}?{one}") for one in (query, same_as)]
    assert answer.status_code == same.status_code == 200
    assert answer.content == same.content


async def test_the_next_request_counts_tokens_as_exactly_as_this_one(live):
    for number in range(40):
        await beat(live, name=f"agent-{number}", tasks=[{"id": f"t-{number}"}])
    query = "max_tokens=300&about=agent-7&bytes_per_token=1.93314970783253"
    found = (await live.client.get(f"{BRIEF}?{query}")).json()
    assert found["next"].endswith("bytes_per_token=1.93314970783253")
    assert (await live.client.get(found["next"])).status_code == 200


async def test_a_budget_is_kept(live):
    for number in range(40):
        await beat(live, name=f"agent-{number}", tasks=[{"id": f"t-{number}"}])
    for tokens in (200, 500):
        body = (await live.client.get(f"{BRIEF}?max_tokens={tokens}&about=agent-7")).content
        assert math.ceil(len(body) / 1.8) <= tokens


async def test_a_brief_is_about_an_agent_and_about_its_task(live):
    await beat(live, tasks=[TASK])
    for name in ("planner", "prod/planner", "t-1"):
        found = (await live.client.get(f"{BRIEF}?about={name}")).json()
        assert found["agents"]["rows"][0][:2] == ["planner", "active"]
    assert found["about"] == ["agents/prod/planner task t-1"]
    assert found["details"]["agents/prod/planner task t-1"]["step"] == "plans"


async def test_an_unknown_name_is_refused_with_the_nearest(live):
    await beat(live)
    answer = await live.client.get(f"{BRIEF}?about=prod/planer")
    assert answer.status_code == 404
    assert answer.json()["nearest"] == ["prod/planner"]


async def test_the_changes_of_an_agent_are_told(live):
    await beat(live, queues=["a"])
    await beat(live, queues=["a", "b"])
    found = (await live.client.get(f"{BRIEF}?about=planner")).json()
    columns, rows = found["changes"]["columns"], found["changes"]["rows"]
    told = [dict(zip(columns, row, strict=False)) for row in rows]
    assert {"queues", "added"} == {row["field"] for row in told}


async def test_it_needs_the_read_token(serving):
    async with serving("server: {auth: {read: r, write: w}}") as live:
        assert (await live.client.get(BRIEF)).status_code == 401
        told = {"authorization": "Bearer r"}
        assert (await live.client.get(BRIEF, headers=told)).status_code == 200


async def test_links_have_the_root_path(serving):
    async with serving("server: {root_path: /telemetron}") as live:
        for number in range(40):
            await beat(live, name=f"agent-{number}", tasks=[{"id": f"t-{number}"}])
        found = (await live.client.get(f"{BRIEF}?max_tokens=200&about=agent-7")).json()
        assert found["next"].startswith("/telemetron/system/")
        unknown = (await live.client.get(f"{BRIEF}?about=nobody")).json()
        assert "/telemetron/system/tasks/" in unknown["detail"]


# one revision


class BusyHistory(History):
    """A history that has no time to answer."""

    async def ask(self, query, timeout=30.0):
        raise BusyError("the history cannot answer now; retry")


@pytest.fixture
async def store():
    store = Store("test")
    source = store.add("heartbeats", "heartbeats")
    part = AgentPart(namespace="prod", instance=Instance(id="i", status="idle"), origin="heartbeat")
    store.put(source, "agents", "planner", "i", part)
    store.flush()
    return store


def asked(about=None, media="application/json"):
    return Asked(Question(about=about), media)


async def test_equal_questions_at_once_share_one_answer(store):
    briefs = Briefs(store.snapshot, BusyHistory(store))
    first, second = await asyncio.gather(briefs.get(asked()), briefs.get(asked()))
    assert first is second


async def test_a_busy_history_leaves_the_changes_unknown(store):
    body = await Briefs(store.snapshot, BusyHistory(store)).get(asked("planner"))
    assert json.loads(body)["unknown"] == "changes: the history cannot answer now; retry"


async def test_answers_are_kept_up_to_a_bound(store):
    briefs = Briefs(store.snapshot, BusyHistory(store))
    first = await briefs.get(asked())
    for tokens in range(200, 264):
        await briefs.get(Asked(Question(tokens), "application/json"))
    assert await briefs.get(asked()) is not first


async def test_a_failed_answer_is_not_kept(store):
    briefs = Briefs(store.snapshot, BusyHistory(store))
    for _ in range(2):
        with pytest.raises(HttpProblem, match="no 'nobody' in the state"):
            await briefs.get(asked("nobody"))
