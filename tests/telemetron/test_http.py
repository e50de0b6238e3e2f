import json
from collections.abc import Iterable
from typing import Any

import pytest

from telemetron.http import HttpProblem, answer, disconnected, read_json, require_method, route_path

JSON = (b"content-type", b"application/json")


def scope(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"method": "POST", "raw_path": b"/", "headers": list(headers), **more}


class Sent(list[dict[str, Any]]):
    """A `send` that keeps the messages."""

    async def __call__(self, message: dict[str, Any]) -> None:
        self.append(message)


async def read(
    messages: Iterable[dict[str, Any]], *headers: tuple[bytes, bytes], limit: int = 10
) -> bytes:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return await read_json(scope(*headers), receive, limit)


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def problem_of(awaited: Any) -> HttpProblem:
    with pytest.raises(HttpProblem) as caught:
        await awaited
    return caught.value


# bodies


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"GZIP, gzip"])
async def test_a_compressed_body_is_refused(coding: bytes) -> None:
    problem = await problem_of(read([], JSON, (b"content-encoding", coding)))
    assert problem.status == 415
    assert coding.decode() in problem.detail
    assert await read([part(b"1")], JSON, (b"content-encoding", b"identity")) == b"1"


async def test_a_body_may_arrive_in_parts() -> None:
    assert await read([part(b"1")], JSON) == b"1"
    assert await read([part(b"1" * 5, more=True), part(b"", more=True), part(b"2" * 5)], JSON)
    assert await read([{"type": "http.request"}], JSON) == b""


@pytest.mark.parametrize(
    "messages",
    [
        [part(b"x" * 11)],
        [part(b"x" * 11, more=True)],
        [part(b"x" * 10, more=True), part(b"x")],
        [part(b"x" * 6, more=True), part(b"x" * 6, more=True)],
    ],
)
async def test_reading_stops_at_the_limit(messages: list[Any]) -> None:
    problem = await problem_of(read(messages, JSON))
    assert (problem.status, problem.more) == (413, {"limit": 10})


async def test_a_content_length_over_the_limit_is_refused_unread() -> None:
    problem = await problem_of(read([], JSON, (b"content-length", b"11")))
    assert problem.status == 413
    assert await read([part(b"x" * 10)], JSON, (b"content-length", b"10"))


async def test_a_disconnect_before_the_end_of_the_body_is_a_problem() -> None:
    gone = {"type": "http.disconnect"}
    assert (await problem_of(read([gone], JSON))).status == 400
    assert (await problem_of(read([part(b"1", more=True), gone], JSON))).status == 400


@pytest.mark.parametrize(
    ("media", "taken"),
    [
        (b"application/json", True),
        (b"application/json;charset=utf-8", True),
        (b" Application/JSON ; x=y", True),
        (b"text/json", False),
        (b"application/json-seq", False),
        (b"", False),
    ],
)
async def test_media_types(media: bytes, taken: bool) -> None:
    if taken:
        assert await read([part(b"1")], (b"content-type", media)) == b"1"
    else:
        assert (await problem_of(read([], (b"content-type", media)))).status == 415


async def test_no_media_type_is_refused() -> None:
    assert (await problem_of(read([]))).status == 415


async def test_disconnected_waits_for_the_client_to_leave() -> None:
    left = iter([part(b"1"), part(b""), {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(left)

    await disconnected(receive)
    assert list(left) == []


# paths and methods


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/a/b", "", "/a/b"),
        ("/a%2Fb", "", "/a%2Fb"),
        ("/root/a", "/root", "/a"),
        ("/root", "/root", "/root"),
        ("/rooted/a", "/root", "/rooted/a"),
        ("/a/root", "/root", "/a/root"),
    ],
)
def test_the_path_below_the_root_path(path: str, root: str, below: str) -> None:
    assert route_path(scope(raw_path=path.encode(), root_path=root)) == below


def test_the_path_without_a_root_path() -> None:
    assert route_path({"raw_path": b"/a"}) == "/a"


def test_another_method_is_a_405_with_allow() -> None:
    require_method(scope(), "GET", "POST")
    with pytest.raises(HttpProblem) as caught:
        require_method(scope(method="PUT"), "GET", "HEAD")
    assert caught.value.status == 405
    assert caught.value.headers == {"allow": "GET, HEAD"}
    assert "PUT" in caught.value.detail


# answers


async def test_a_problem_is_a_problem_document() -> None:
    sent = Sent()
    problem = HttpProblem(429, "wait", {"retry-after": "5"}, limit=3)
    await problem(scope(), None, sent)  # type: ignore[arg-type]
    start, body = sent
    assert start["status"] == 429
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"retry-after"] == b"5"
    assert headers[b"content-length"] == b"%d" % len(body["body"])
    assert json.loads(body["body"]) == {
        "type": "about:blank",
        "title": "Too many",
        "status": 429,
        "detail": "wait",
        "limit": 3,
    }


def test_a_collectors_problem_may_have_any_status() -> None:
    assert json.loads(HttpProblem(418, "no coffee").body())["status"] == 418


@pytest.mark.parametrize(("method", "body"), [("GET", b"text"), ("HEAD", b"")])
async def test_an_answer_to_head_has_no_body(method: str, body: bytes) -> None:
    sent = Sent()
    await answer(scope(method=method), sent, 200, b"text", {"x": "y"})
    assert sent[0]["headers"] == [(b"x", b"y"), (b"content-length", b"4")]
    assert sent[1]["body"] == body
