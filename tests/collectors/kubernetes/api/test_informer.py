"""Informers: lists and watches, and every way in which they fail."""

import asyncio

import pytest
from aiohttp import web

from tests.collectors.kubernetes.apiserver import GONE, RESOURCES, bookmarks, failing, status
from tests.collectors.kubernetes.things import pod


async def test_closed_watches_resume_without_a_list(api, observing):
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until_ok()
        asked = len(api.requests)
        api.close_watches()
        api.put("pods", pod("b"))
        await observed.until(lambda: observed.names == ["a", "b"])
        await api.asked(asked + len(RESOURCES))
        assert observed.status == "ok"
        assert not any("sendInitialEvents" in query for _, query in api.requests[asked:])


async def test_watches_that_close_at_once_are_retried_slowly(api, observing):
    api.put("pods", pod("a"))
    async with observing(promise=1) as observed:
        await observed.until_ok()

        async def close(request):
            return web.Response()

        for resource in RESOURCES:
            api.faults[resource] = close
        asked = len(api.requests)
        api.close_watches()
        await observed.until(lambda: observed.problems.get("pods") == "Unconfirmed")
        assert observed.status == "stale"
        assert len(api.requests) - asked < 10 * len(RESOURCES)
        assert observed.names == ["a"]
        api.faults.clear()
        api.put("pods", pod("b"))
        await observed.until(lambda: observed.names == ["a", "b"])


async def test_one_frozen_watch_makes_the_source_stale(api, observing):
    async with observing(promise=1.2, bounds={"silence_seconds": 0.8}) as observed:
        await observed.until_ok()
        api.faults["pods"] = failing(then=lambda: status(500))
        async with bookmarks(api, [one for one in RESOURCES if one != "pods"]):
            await observed.until(lambda: observed.problems)
            assert list(observed.problems) == ["pods"]
            await observed.until(lambda: observed.status == "stale")
            api.faults.clear()
            await observed.until(lambda: observed.problems == {})


async def test_frozen_watch_is_opened_again(api, observing):
    async with observing(bounds={"silence_seconds": 0.4}) as observed:
        await observed.until_ok()
        await observed.until(lambda: observed.problems.get("pods") == "Timeout")
        assert "stopped sending" in observed.message("pods")
        async with bookmarks(api, RESOURCES):
            await observed.until_ok()


async def test_truncated_line_is_dropped(api, observing):
    async with observing() as observed:
        await observed.until_ok()
        api.send("pods", b'{"type":"ADDED","object":{"metadata":{"na\n')
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        api.put("pods", pod("a"))
        await observed.until(lambda: observed.names == ["a"])
        await observed.until_ok()
        api.send("pods", b'{"type":"ADDED","object":{"metad')
        api.close_watches()  # a line that is not whole is none
        api.put("pods", pod("b"))
        await observed.until(lambda: observed.names == ["a", "b"])


@pytest.mark.parametrize(
    "line",
    [
        b'{"object":{}}\n',
        b'{"type":"ADDED","object":{"metadata":5}}\n',
        b'{"type":"ERROR","object":7}\n',
    ],
)
async def test_line_that_is_not_an_event_is_a_problem(api, observing, line):
    async with observing() as observed:
        await observed.until_ok()
        api.send("pods", line)
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        await observed.until_ok()


async def test_line_that_is_too_long_is_a_problem(api, observing):
    async with observing(bounds={"line_bytes": 1000}) as observed:
        await observed.until_ok()
        api.send("jobs", b"x" * 5000)
        await observed.until(lambda: observed.problems.get("jobs") == "BadAnswer")
        await observed.until_ok()


async def test_malformed_object_keeps_its_last_version(api, observing):
    odd = pod("odd")
    odd["spec"]["containers"] = "none"
    api.put("pods", odd)
    api.put("pods", pod("good"))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.names == ["good"]
        assert observed.problems == {"pods": "BadAnswer"}
        assert observed.message("pods").startswith("objects that cannot be decoded: 1;")
        worse = pod("good")
        worse["status"]["phase"] = 7
        api.put("pods", worse)
        await observed.until(
            lambda: observed.message("pods").startswith("objects that cannot be decoded: 2;")
        )
        assert observed.names == ["good"]  # as it was last known
        api.put("pods", pod("odd"))
        api.delete("pods", "good")
        await observed.until(lambda: observed.names == ["odd"])
        await observed.until_ok()
        assert observed.source.events["odd_objects"] == 2


@pytest.mark.parametrize("streams", [True, False])
async def test_object_without_a_name_hides_no_other(api, observing, streams):
    api.streams = streams
    api.put("pods", pod("a"))
    api.objects["pods"]["default", "odd"] = {"metadata": 5}
    api.put("pods", pod("z"))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.names == ["a", "z"]
        assert observed.problems == {"pods": "BadAnswer"}
        assert observed.message("pods").startswith("objects that cannot be decoded: 1;")
        # One that is sent later is not waited for for ever: all are listed again.
        del api.objects["pods"]["default", "odd"]
        api.send("pods", {"type": "ADDED", "object": {"metadata": []}})
        await observed.until_ok()
        api.put("pods", pod("b"))
        await observed.until(lambda: observed.names == ["a", "b", "z"])


async def test_object_with_malformed_times_keeps_its_last_version(api, observing):
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until_ok()
        api.put("pods", pod("a", creationTimestamp="yesterday"))
        await observed.until(lambda: observed.problems == {"pods": "BadAnswer"})
        assert observed.names == ["a"]
        api.close_watches()
        api.compact()  # all are listed again
        api.put("pods", pod("b"))
        await observed.until(lambda: observed.names == ["a", "b"])
        assert observed.source.events["relists"]


async def test_expired_version_in_a_watch_lists_again(api, observing):
    api.put("pods", pod("a"))
    api.put("pods", pod("b"))
    async with observing() as observed:
        await observed.until_ok()
        api.close_watches()
        api.delete("pods", "a")
        api.compact()
        await observed.until(lambda: observed.names == ["b"])
        await observed.until_ok()
        assert observed.source.events["relists"] == len(RESOURCES)


async def test_expired_version_in_a_list_lists_again(api, observing):
    api.streams = False
    for number in range(5):
        api.put("pods", pod(f"p{number}"))
    gone = iter([True, True])

    async def fault(request):
        if "watch" not in request.query and next(gone, False):
            return web.json_response(GONE, status=410)
        if "continue" in request.query and next(gone_later, False):
            return web.json_response(GONE, status=410)
        return None

    gone_later = iter([True])
    api.faults["pods"] = fault
    async with observing(bounds={"page_items": 2}) as observed:
        await observed.until_ok()
        assert len(observed.workloads) == 5
        assert observed.source.events["relists"] == 3


async def test_error_event_is_a_problem(api, observing):
    async with observing() as observed:
        await observed.until_ok()
        error = {"code": 429, "details": {"retryAfterSeconds": 1}, "status": "Failure"}
        for resource in ("pods", "replicasets"):
            api.send(resource, {"type": "ERROR", "object": error})
            await observed.until(lambda: observed.problems.get(resource) == "RateLimited")  # noqa: B023
        await observed.until_ok()


async def test_server_without_watch_list_is_listed_in_pages(api, observing):
    api.streams = False
    for number in range(5):
        api.put("pods", pod(f"p{number}"))
    async with observing(bounds={"page_items": 2}) as observed:
        await observed.until_ok()
        assert len(observed.workloads) == 5
        api.put("pods", pod("new"))
        await observed.until(lambda: len(observed.workloads) == 6)
        api.close_watches()
        api.delete("pods", "new")
        api.compact()
        await observed.until(lambda: len(observed.workloads) == 5)


async def test_silent_streamed_list_falls_back_to_pages(api, observing):
    api.ends = False
    api.put("pods", pod("a"))
    async with observing(bounds={"list_silence_seconds": 0.2}) as observed:
        await observed.until_ok()
        assert observed.names == ["a"]


async def test_endless_streamed_list_falls_back_to_pages(api, observing):
    api.ends = False
    bounds = {"list_seconds": 0.3, "list_silence_seconds": 1}
    async with observing(bounds=bounds) as observed:

        async def talk():
            while True:
                api.put("pods", pod("a"))
                await asyncio.sleep(0.05)

        talking = asyncio.create_task(talk())
        await observed.until_ok()
        talking.cancel()


async def test_response_that_is_not_a_list_is_a_problem(api, observing):
    api.streams = False
    api.faults["jobs"] = failing(lambda: status(422), lambda: web.Response(text="[]"))
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("jobs") == "BadAnswer")
        await observed.until_ok()
