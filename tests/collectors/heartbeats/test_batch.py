"""Batches: over HTTP against the real server, and against the same beats sent one by one."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from telemetron.http import JSON, HttpProblem
from telemetron_collectors.heartbeats.app import HeartbeatApp
from telemetron_collectors.heartbeats.batch import MAX_BATCH, MAX_BEATS, NDJSON, Batches, split
from telemetron_collectors.heartbeats.beat import MAX_BODY
from telemetron_collectors.heartbeats.register import LIMITS
from tests.collectors.heartbeats.bench import Bench
from tests.collectors.heartbeats.test_beat import FULL, nearly

BATCH = "/agents/heartbeats"
TAKEN = {"status": 204}


def lines(beats: Sequence[Any]) -> bytes:
    return b"".join([json.dumps(beat).encode() + b"\n" for beat in beats])


def beat(agent: str = "planner", **fields: Any) -> dict[str, Any]:
    return {"agent": agent, "instance": "i", **fields}


async def send(live: Any, content: Any, media: str = NDJSON, **headers: str) -> Any:
    headers = {"content-type": media, **headers}
    return await live.client.post(BATCH, content=content, headers=headers)


async def results(live: Any, beats: Sequence[Any]) -> list[dict[str, Any]]:
    answer = await send(live, lines(beats))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JSON
    found: list[dict[str, Any]] = answer.json()
    return found


async def agents(live: Any) -> dict[str, Any]:
    live.app.service.store.flush()  # else it may take its 25 ms
    state = (await live.client.get("/system/state")).json()
    return {agent["name"]: agent for agent in state["agents"]}


async def refused(live: Any, status: int, content: Any, media: str = NDJSON, **headers: str) -> Any:
    """The problem that a whole batch is answered with; none of its beats was taken."""
    before = await agents(live)
    answer = await send(live, content, media, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await agents(live) == before
    return answer.json()


async def test_each_beat_names_its_agent(live: Any) -> None:
    beats = [beat("a", tasks=[{"id": "t"}]), beat("b"), beat("a", instance="j")]
    for content, media in ((lines(beats), NDJSON), (json.dumps(beats).encode(), JSON)):
        assert (await send(live, content, media)).json() == [TAKEN] * 3
        found = await agents(live)
        assert {name: agent["instance_count"] for name, agent in found.items()} == {"a": 2, "b": 1}
        assert (await live.client.delete("/agents/b/instances/i")).status_code == 204


async def test_an_empty_batch_has_no_results(live: Any) -> None:
    for content, media in ((b"", NDJSON), (b"\n \r\n\n", NDJSON), (b" [ ] ", JSON)):
        answer = await send(live, content, media)
        assert (answer.status_code, answer.json()) == (200, [])


async def test_a_line_may_end_in_any_way(live: Any) -> None:
    whole = lines([beat("a"), beat("b")]).replace(b"\n", b"\r\n") + b"\n" + lines([beat("c")])[:-1]
    assert (await send(live, whole)).json() == [TAKEN] * 3
    assert set(await agents(live)) == {"a", "b", "c"}


async def test_a_bad_beat_harms_no_other(live: Any) -> None:
    content = b"\n".join(
        [
            lines([beat("a")])[:-1],
            b"no beat",
            b"\xff\x00",
            b'{"agent":"x","instance":"i","tasks":[{"id":1}]}',
            b'{"instance":"i"}',
            b"[" * 100_000,
            b'{"agent":"x","instance":"i","description":"' + MAX_BODY * b"x" + b'"}',
            lines([beat("b")])[:-1],
        ]
    )
    found = (await send(live, content)).json()
    assert [one["status"] for one in found] == [204, 400, 400, 422, 422, 400, 413, 204]
    assert found[1]["detail"].startswith("the beat is not JSON: ")
    assert found[3]["path"] == "$.tasks[0].id"
    assert "agent" in found[4]["detail"]
    assert found[6]["limit"] == MAX_BODY
    assert set(await agents(live)) == {"a", "b"}


async def test_an_array_with_a_bad_beat_harms_no_other(live: Any) -> None:
    answer = await send(live, json.dumps([beat("a"), 3, [], {}, beat("b")]).encode(), JSON)
    assert [one["status"] for one in answer.json()] == [204, 422, 422, 422, 204]
    assert set(await agents(live)) == {"a", "b"}


async def test_an_array_that_is_no_json_is_refused_whole(live: Any) -> None:
    start = json.dumps([beat("a"), beat("b")]).encode()[:-1]
    for content in (start, start + b",nonsense]", b"", b"[" * 100_000, b"[" + start + b"]]]"):
        assert "JSON" in (await refused(live, 400, content, JSON))["detail"]
    problem = await refused(live, 422, lines([beat("a")]), JSON)
    assert NDJSON in problem["detail"]


async def test_beats_of_one_instance_count_in_their_order(live: Any) -> None:
    beats = [beat(boot_id="b", sequence=n, tasks=[{"id": f"t{n}"}]) for n in (1, 3, 2)]
    assert await results(live, beats) == [TAKEN] * 3
    (task,) = (await agents(live))["planner"]["activity"]["active_task_ids"]
    assert task["id"] == "t3"
    assert live.app.service.store.sources["heartbeats"].events == {"beats_dropped": 1}


async def test_a_repeated_batch_changes_nothing(live: Any) -> None:
    beats = [beat(f"a{n}", boot_id="b", sequence=1, tasks=[{"id": "t"}]) for n in range(50)]
    assert await results(live, beats) == [TAKEN] * 50
    before = await agents(live)
    assert await results(live, beats) == [TAKEN] * 50
    assert await agents(live) == before


NAMES = ["a b", "a/b", "%2F", "~", "-", "ü", "日本", 'say "no"', "a\\b", "heartbeats", "x" * 256]


async def test_a_name_may_be_any_text(live: Any) -> None:
    assert await results(live, [beat(name) for name in NAMES]) == [TAKEN] * len(NAMES)
    assert set(await agents(live)) == set(NAMES)
    for name in NAMES:
        path = f"/agents/{quote(name, safe='')}/instances/i"
        assert (await live.client.delete(path)).status_code == 204, name


async def test_a_name_that_cannot_be_shown_is_refused(live: Any) -> None:
    names = ["", "\x00", "a\nb", "\x1b[31m", "x" * 257, "\u202e"]
    found = await results(live, [beat(name) for name in names])
    assert {one["status"] for one in found} == {404}
    assert all("printable" in one["detail"] for one in found)
    assert await agents(live) == {}


async def test_the_largest_batch_is_taken_and_a_larger_one_refused(live: Any) -> None:
    beats = [beat(f"a{n}") for n in range(MAX_BEATS)]
    assert await results(live, beats) == [TAKEN] * MAX_BEATS
    for content, media in (
        (lines([*beats, beat("one more")]), NDJSON),
        (lines(beats) + b"\n\n{}\n", NDJSON),
        (json.dumps([*beats, beat("one more")]).encode(), JSON),
    ):
        problem = await refused(live, 413, content, media)
        assert problem["limit"] == MAX_BEATS
    problem = await refused(live, 413, b"[" + b"1," * 2_000_000 + b"1]", JSON)
    assert "commas" in problem["detail"]


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1_000_000):
        yield body[start : start + 1_000_000]


async def test_a_larger_body_is_413_declared_or_not(live: Any) -> None:
    largest = lines([beat()]).ljust(MAX_BATCH)
    for content in (largest, pieces(largest)):
        assert (await send(live, content)).json() == [TAKEN]
    for content in (largest + b" ", pieces(largest + b" "), pieces(2 * largest)):
        problem = await refused(live, 413, content)
        assert problem["limit"] == MAX_BATCH


async def test_another_media_type_or_coding_is_415(live: Any) -> None:
    for media in ("text/plain", "application/jsonl", ""):
        problem = await refused(live, 415, b"", media)
        assert NDJSON in problem["detail"]
    await refused(live, 415, b"", **{"content-encoding": "gzip"})
    for media in (f"{NDJSON}; charset=utf-8", "Application/X-NDJSON"):
        assert (await send(live, lines([beat()]), media)).json() == [TAKEN]


async def test_only_post_without_a_query(live: Any) -> None:
    answer = await live.client.get(BATCH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await live.client.post(BATCH + "?a=b")).status_code == 400


async def test_a_batch_needs_the_token_for_writing(serving: Any) -> None:
    read, write = "read-token-0123456789", "write-token-0123456789"
    async with serving(f"server: {{auth: {{read: {read}, write: {write}}}}}") as live:
        for token, status in ((read, 403), ("wrong", 401), (write, 200)):
            answer = await send(live, lines([beat()]), authorization=f"Bearer {token}")
            assert answer.status_code == status


async def test_half_a_batch_changes_nothing_and_holds_up_nobody(live: Any) -> None:
    body = lines([beat("lost")] * 100)
    head = f"POST {BATCH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {NDJSON}\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    _, stalled = await asyncio.open_connection("127.0.0.1", int(live.url.rpartition(":")[2]))
    stalled.write(head.encode() + body[:-5])
    await stalled.drain()
    assert await results(live, [beat("other")]) == [TAKEN]
    stalled.close()
    await stalled.wait_closed()
    assert await results(live, [beat("other")]) == [TAKEN]
    assert set(await agents(live)) == {"other"}


# without a server


class Asgi:
    """Calls a function of ASGI with a body in pieces; the client may stall."""

    def __init__(self, *pieces: bytes, media: str = NDJSON) -> None:
        self.scope = {"headers": [(b"content-type", media.encode())], "query_string": b""}
        self.scope |= {"method": "POST", "root_path": ""}
        self.news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        for at, piece in enumerate(pieces, 1):
            self.push(piece, more=at < len(pieces))

    def push(self, piece: bytes, *, more: bool) -> None:
        self.news.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    async def receive(self) -> dict[str, Any]:
        return await self.news.get()

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def call(self, app: HeartbeatApp, path: str) -> Any:
        """The status and the body of the answer."""
        self.scope["raw_path"] = path.encode()
        try:
            await app(self.scope, self.receive, self.send)
        except HttpProblem as problem:
            return problem.status, json.loads(problem.body())
        return self.sent[0]["status"], json.loads(self.sent[1]["body"] or b"null")


async def test_batches_that_arrive_slowly_are_bounded_together() -> None:
    batches = Batches(lambda body: None, most_pending=100)
    slow = Asgi()
    slow.push(60 * b" ", more=True)
    waiting = asyncio.create_task(batches.answer(slow.scope, slow.receive))
    await asyncio.sleep(0)  # it has read what arrived, and waits for more
    other = Asgi(41 * b" ")
    with pytest.raises(HttpProblem) as caught:
        await batches.answer(other.scope, other.receive)
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "1"})
    slow.news.put_nowait({"type": "http.disconnect"})
    with pytest.raises(HttpProblem):
        await waiting
    whole = Asgi(100 * b" ")
    assert await batches.answer(whole.scope, whole.receive) == b"[]"


async def test_a_long_batch_lets_others_run() -> None:
    turns: list[int] = []

    def take(body: bytes) -> None:
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            pass
        turns.append(int(body))

    async def other() -> None:
        while len(turns) < 3:
            seen.append(len(turns))
            await asyncio.sleep(0)

    seen: list[int] = []
    sent = Asgi(b"1\n2\n3")
    answer, _ = await asyncio.gather(Batches(take).answer(sent.scope, sent.receive), other())
    assert json.loads(answer) == [TAKEN] * 3
    assert {1, 2} <= set(seen)


async def test_a_limit_refuses_only_the_beats_beyond_it() -> None:
    bench = Bench(limits=LIMITS._replace(agents=2))
    app = HeartbeatApp(bench.register, bench.output)
    beats = [beat("a"), beat("b"), beat("c"), beat("a", instance="j")]
    _, found = await Asgi(lines(beats)).call(app, BATCH)
    assert [one["status"] for one in found] == [204, 204, 429, 204]
    assert (found[2]["limit"], found[2]["retry_after"]) == (2, 60)


async def test_the_rest_of_a_batch_is_refused_once_its_source_has_ended() -> None:
    bench = Bench()
    app = HeartbeatApp(bench.register, bench.output)
    sent = Asgi()
    sent.push(lines([beat("a")]), more=True)
    answering = asyncio.create_task(sent.call(app, BATCH))
    await asyncio.sleep(0)
    bench.register.close()
    sent.push(b"", more=False)
    status, found = await answering
    assert (status, [one["status"] for one in found]) == (200, [503])
    assert found[0]["retry_after"] == 1
    assert bench.parts == []


AGENT = st.sampled_from(["planner", "a/b", "ü", "%2F", "two\nlines", "x" * 257])
SMALL = FULL | {"namespace": "n", "boot_id": "b", "sequence": 3}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(AGENT, nearly(SMALL)), max_size=5),
    st.sampled_from([NDJSON, JSON]),
)
@example([("planner", SMALL), ("planner", SMALL), ("planner", SMALL | {"sequence": 4})], NDJSON)
async def test_a_batch_equals_its_beats_sent_one_by_one(
    beats: list[tuple[str, Any]], media: str
) -> None:
    single, whole = Bench(), Bench()
    app = HeartbeatApp(single.register, single.output)
    answers = []
    for name, body in beats:
        path = f"/agents/{quote(name, safe='')}/heartbeat"
        sent = Asgi(json.dumps(body).encode(), media=JSON)
        answers.append(await sent.call(app, path))
    named = [{"agent": n} | body if isinstance(body, dict) else body for n, body in beats]
    content = lines(named) if media == NDJSON else json.dumps(named).encode()
    assume(media == NDJSON or not re.search(rb"NaN|Infinity", content))  # no JSON: refused whole
    app = HeartbeatApp(whole.register, whole.output)
    status, found = await Asgi(content, media=media).call(app, BATCH)
    assert status == 200
    for one, (status, problem) in zip(found, answers, strict=True):
        if status == 404:  # with a bad name beside a bad body, either may be the reason
            assert one["status"] in (400, 404, 422)
        elif status == 400:  # the details name the byte
            assert one["status"] == 400
        else:
            assert one == (problem or TAKEN)
    assert whole.output.calls == single.output.calls


def test_what_is_no_batch_is_refused() -> None:
    for body, media, status in [
        (b"{}", JSON, 422),
        (b"[1", JSON, 400),
        (b"[" + b"{}," * MAX_BEATS + b"{}]", JSON, 413),
        (b"{}\n" * (MAX_BEATS + 1), NDJSON, 413),
    ]:
        with pytest.raises(HttpProblem) as caught:
            split(body, media)
        assert caught.value.status == status
    assert split(b"{}\n" * MAX_BEATS, NDJSON) == [b"{}"] * MAX_BEATS
