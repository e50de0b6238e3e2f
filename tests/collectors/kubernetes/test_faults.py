"""What an API server, and what stands before it, can do wrong."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.collectors.kubernetes.apiserver import GONE, status
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.collectors.kubernetes.things import deployment, pod, replicaset

RESOURCES = (
    "pods",
    "deployments",
    "statefulsets",
    "daemonsets",
    "jobs",
    "replicasets",
    "horizontalpodautoscalers",
)


def failing(*answers, then=None):
    """A fault that gives these answers in turn, then `then`, for ever; None is the server's own."""
    left = list(answers)

    async def fault(request):
        return (left.pop(0) if left else then or (lambda: None))()

    return fault


def names(observed):
    return [key.rpartition("/")[2] for key in observed.workloads]


async def ok(observed):
    await observed.until(lambda: observed.status == "ok" and observed.problems == {})


@asynccontextmanager
async def bookmarks(api, resources):
    """Send a bookmark of each resource every 0.2 s."""

    async def send():
        while True:
            for resource in resources:
                api.bookmark(resource)
            await asyncio.sleep(0.2)

    sending = asyncio.create_task(send())
    yield
    sending.cancel()


async def test_down_at_the_start(api, observing, tmp_path):
    runner = await api.start()
    port = runner.addresses[0][1]
    await runner.cleanup()
    (tmp_path / "kubeconfig").write_text(kubeconfig(api.url))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: len(observed.problems) == len(RESOURCES))
        assert set(observed.problems.values()) == {"Unreachable"}
        assert observed.status == "starting"
        runner = await api.start(port)
        await ok(observed)
        assert names(observed) == ["a"]
        await runner.cleanup()


async def test_one_request_at_a_time_while_nothing_is_reachable(api, observing):
    api.faults["*"] = failing(then=lambda: status(503))
    start = time.monotonic()
    async with observing() as observed:
        await api.asked(4)
        assert time.monotonic() - start > 0.08  # 25, 50 and 100 ms lie between, each ± 50 %
        assert observed.problems["pods"] == "Unreachable"
        assert "SECRET" not in observed.message("pods")
        api.faults.clear()
        await ok(observed)


async def test_a_server_that_dies_is_asked_by_one(api, observing):
    api.put("pods", pod("a"))
    async with observing() as observed:
        await ok(observed)
        asked = len(api.requests)
        api.faults["*"] = failing(then=lambda: status(503))
        api.close_watches()
        await observed.until(lambda: len(observed.problems) == len(RESOURCES))
        assert len(api.requests) - asked <= 3
        assert names(observed) == ["a"]
        api.faults.clear()
        await ok(observed)


async def test_every_watch_is_closed_at_once(api, observing):
    api.put("pods", pod("a"))
    async with observing() as observed:
        await ok(observed)
        asked = len(api.requests)
        api.close_watches()
        api.put("pods", pod("b"))
        await observed.until(lambda: names(observed) == ["a", "b"])
        await api.asked(asked + len(RESOURCES))
        assert observed.status == "ok"
        assert not any("sendInitialEvents" in query for _, query in api.requests[asked:])


async def test_watches_that_are_closed_again_and_again(api, observing):
    api.put("pods", pod("a"))
    async with observing(promise=1) as observed:
        await ok(observed)

        async def close(request):
            return web.Response()

        for resource in RESOURCES:
            api.faults[resource] = close
        asked = len(api.requests)
        api.close_watches()
        await observed.until(lambda: observed.problems.get("pods") == "Unconfirmed")
        assert observed.status == "stale"
        assert len(api.requests) - asked < 10 * len(RESOURCES)
        assert names(observed) == ["a"]
        api.faults.clear()
        api.put("pods", pod("b"))
        await observed.until(lambda: names(observed) == ["a", "b"])


async def test_a_server_that_accepts_and_never_answers(api, observing):
    async def hang(request):
        await asyncio.sleep(60)

    api.faults["*"] = hang
    async with observing(bounds={"answer_seconds": 0.2}) as observed:
        await observed.until(lambda: observed.problems.get("jobs") == "Timeout")
        api.faults.clear()
        await ok(observed)


async def test_one_watch_is_silently_frozen(api, observing):
    async with observing(promise=1.2, bounds={"silence_seconds": 0.8}) as observed:
        await ok(observed)
        api.faults["pods"] = failing(then=lambda: status(500))
        async with bookmarks(api, [one for one in RESOURCES if one != "pods"]):
            await observed.until(lambda: observed.problems)
            assert list(observed.problems) == ["pods"]
            await observed.until(lambda: observed.status == "stale")
            api.faults.clear()
            await observed.until(lambda: observed.problems == {})


async def test_a_frozen_watch_is_opened_again(api, observing):
    async with observing(bounds={"silence_seconds": 0.4}) as observed:
        await ok(observed)
        await observed.until(lambda: observed.problems.get("pods") == "Timeout")
        assert "stopped sending" in observed.message("pods")
        async with bookmarks(api, RESOURCES):
            await ok(observed)


async def test_a_token_is_rotated(api, observing, tmp_path):
    wanted = "t"

    async def refuse(request):
        return None if request.headers["Authorization"] == f"Bearer {wanted}" else status(401)

    api.faults["*"] = refuse
    async with observing() as observed:
        await ok(observed)
        wanted = "new"
        api.close_watches()
        await observed.until(lambda: "Unauthorized" in observed.problems.values())
        (tmp_path / "kubeconfig").write_text(kubeconfig(api.url, token="new"))
        await ok(observed)


async def test_one_kind_is_forbidden_from_the_start(api, observing):
    api.faults["deployments"] = failing(then=lambda: status(403))
    api.put("replicasets", replicaset("web-1", "web"))
    api.put("pods", pod("web-1-0", ("ReplicaSet", "web-1")))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.problems == {"deployments": "Forbidden"}
        assert observed.message("deployments") == "no permission to watch deployments"
        assert observed.workloads["default/Deployment/web"].live is None
        api.faults.clear()
        api.put("deployments", deployment("web"))
        await observed.until(lambda: observed.workloads["default/Deployment/web"].live)
        await ok(observed)


async def test_autoscalers_are_forbidden(api, observing):
    api.faults["horizontalpodautoscalers"] = failing(then=lambda: status(403))
    api.put("deployments", deployment("web", 3))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.workloads["default/Deployment/web"].max_pods is None
        api.faults.clear()
        await ok(observed)
        await observed.until(lambda: observed.workloads["default/Deployment/web"].max_pods == 3)


async def test_a_permission_is_taken_away(api, observing):
    api.put("deployments", deployment("web"))
    async with observing(promise=1) as observed:
        await ok(observed)
        api.faults["deployments"] = failing(then=lambda: status(403))
        api.close_watches()
        await observed.until(lambda: observed.problems == {"deployments": "Forbidden"})
        await observed.until(lambda: observed.status == "stale")
        assert names(observed) == ["web"]


async def test_a_kind_that_the_server_does_not_have(api, observing):
    api.faults["horizontalpodautoscalers"] = failing(then=lambda: status(404))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: names(observed) == ["a"])
        assert observed.problems == {"horizontalpodautoscalers": "BadAnswer"}


async def test_it_is_asked_less_often_where_it_wants_that(api, observing):
    api.faults["pods"] = failing(lambda: status(429, **{"Retry-After": "1"}))
    api.put("pods", pod("a"))
    start = time.monotonic()
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("pods") == "RateLimited")
        await ok(observed)
        assert time.monotonic() - start > 0.95
        assert names(observed) == ["a"]


async def test_errors_of_the_server(api, observing):
    api.faults["*"] = failing(lambda: status(500), lambda: status(500), lambda: status(500))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        await ok(observed)
        assert names(observed) == ["a"]


async def test_html_of_a_load_balancer(api, observing):
    def html(code):
        return lambda: web.Response(text="<html>\nSECRET\n</html>", status=code)

    api.faults["*"] = failing(html(502))
    api.faults["pods"] = failing(html(200), html(502))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        assert "SECRET" not in observed.message("pods")
        await ok(observed)
        assert names(observed) == ["a"]


async def test_json_that_is_cut_short(api, observing):
    async with observing() as observed:
        await ok(observed)
        api.send("pods", b'{"type":"ADDED","object":{"metadata":{"na\n')
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        api.put("pods", pod("a"))
        await observed.until(lambda: names(observed) == ["a"])
        await ok(observed)
        api.send("pods", b'{"type":"ADDED","object":{"metad')
        api.close_watches()  # a line that is not whole is none
        api.put("pods", pod("b"))
        await observed.until(lambda: names(observed) == ["a", "b"])


@pytest.mark.parametrize(
    "line",
    [
        b'{"object":{}}\n',
        b'{"type":"ADDED","object":{"metadata":5}}\n',
        b'{"type":"ERROR","object":7}\n',
    ],
)
async def test_json_that_is_no_event(api, observing, line):
    async with observing() as observed:
        await ok(observed)
        api.send("pods", line)
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        await ok(observed)


async def test_a_line_without_end(api, observing):
    async with observing(bounds={"line_bytes": 1000}) as observed:
        await ok(observed)
        api.send("jobs", b"x" * 5000)
        await observed.until(lambda: observed.problems.get("jobs") == "BadAnswer")
        await ok(observed)


async def test_one_odd_object_among_good_ones(api, observing):
    odd = pod("odd")
    odd["spec"]["containers"] = "none"
    api.put("pods", odd)
    api.put("pods", pod("good"))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert names(observed) == ["good"]
        assert observed.problems == {"pods": "BadAnswer"}
        assert observed.message("pods").startswith("objects that cannot be decoded: 1;")
        worse = pod("good")
        worse["status"]["phase"] = 7
        api.put("pods", worse)
        await observed.until(
            lambda: observed.message("pods").startswith("objects that cannot be decoded: 2;")
        )
        assert names(observed) == ["good"]  # as it was last known
        api.put("pods", pod("odd"))
        api.delete("pods", "good")
        await observed.until(lambda: names(observed) == ["odd"])
        await ok(observed)
        assert observed.source.events["odd_objects"] == 2


@pytest.mark.parametrize("streams", [True, False])
async def test_an_object_without_a_name_hides_no_other(api, observing, streams):
    api.streams = streams
    api.put("pods", pod("a"))
    api.objects["pods"]["default", "odd"] = {"metadata": 5}
    api.put("pods", pod("z"))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert names(observed) == ["a", "z"]
        assert observed.problems == {"pods": "BadAnswer"}
        assert observed.message("pods").startswith("objects that cannot be decoded: 1;")
        # One that is sent later is not waited for for ever: all are listed again.
        del api.objects["pods"]["default", "odd"]
        api.send("pods", {"type": "ADDED", "object": {"metadata": []}})
        await ok(observed)
        api.put("pods", pod("b"))
        await observed.until(lambda: names(observed) == ["a", "b", "z"])


async def test_an_object_whose_times_are_odd_stays_as_it_was(api, observing):
    api.put("pods", pod("a"))
    async with observing() as observed:
        await ok(observed)
        api.put("pods", pod("a", creationTimestamp="yesterday"))
        await observed.until(lambda: observed.problems == {"pods": "BadAnswer"})
        assert names(observed) == ["a"]
        api.close_watches()
        api.compact()  # all are listed again
        api.put("pods", pod("b"))
        await observed.until(lambda: names(observed) == ["a", "b"])
        assert observed.source.events["relists"]


async def test_gone_in_the_stream(api, observing):
    api.put("pods", pod("a"))
    api.put("pods", pod("b"))
    async with observing() as observed:
        await ok(observed)
        api.close_watches()
        api.delete("pods", "a")
        api.compact()
        await observed.until(lambda: names(observed) == ["b"])
        await ok(observed)
        assert observed.source.events["relists"] == len(RESOURCES)


async def test_gone_on_list_and_on_continue(api, observing):
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
        await ok(observed)
        assert len(observed.workloads) == 5
        assert observed.source.events["relists"] == 3


async def test_another_error_in_the_stream(api, observing):
    async with observing() as observed:
        await ok(observed)
        error = {"code": 429, "details": {"retryAfterSeconds": 1}, "status": "Failure"}
        for resource in ("pods", "replicasets"):
            api.send(resource, {"type": "ERROR", "object": error})
            await observed.until(lambda: observed.problems.get(resource) == "RateLimited")  # noqa: B023
        await ok(observed)


async def test_the_connection_is_reset(api, observing):
    async with observing() as observed:
        await ok(observed)

        async def reset(request):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b" ")
            request.transport.abort()
            return response

        api.faults["pods"] = reset
        api.close_watches()
        await observed.until(lambda: observed.problems.get("pods") == "Unreachable")
        api.faults.clear()
        api.put("pods", pod("a"))
        await observed.until(lambda: names(observed) == ["a"])
        await ok(observed)


async def test_a_server_without_watch_lists(api, observing):
    api.streams = False
    for number in range(5):
        api.put("pods", pod(f"p{number}"))
    async with observing(bounds={"page_items": 2}) as observed:
        await ok(observed)
        assert len(observed.workloads) == 5
        api.put("pods", pod("new"))
        await observed.until(lambda: len(observed.workloads) == 6)
        api.close_watches()
        api.delete("pods", "new")
        api.compact()
        await observed.until(lambda: len(observed.workloads) == 5)


async def test_a_server_that_never_ends_the_list(api, observing):
    api.ends = False
    api.put("pods", pod("a"))
    async with observing(bounds={"list_silence_seconds": 0.2}) as observed:
        await ok(observed)
        assert names(observed) == ["a"]


async def test_a_server_that_talks_on_without_ending_the_list(api, observing):
    api.ends = False
    bounds = {"list_seconds": 0.3, "list_silence_seconds": 1}
    async with observing(bounds=bounds) as observed:

        async def talk():
            while True:
                api.put("pods", pod("a"))
                await asyncio.sleep(0.05)

        talking = asyncio.create_task(talk())
        await ok(observed)
        talking.cancel()


async def test_a_list_that_is_none(api, observing):
    api.streams = False
    api.faults["jobs"] = failing(lambda: status(422), lambda: web.Response(text="[]"))
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("jobs") == "BadAnswer")
        await ok(observed)


async def test_what_is_late_is_a_problem(api, observing):
    async def hang(request):
        await asyncio.sleep(60)

    api.faults["jobs"] = hang
    api.put("pods", pod("a"))
    async with observing(bounds={"first_seconds": 2}) as observed:
        await observed.until(lambda: names(observed) == ["a"])
        # On a busy machine another may be late too, at first.
        await observed.until(lambda: observed.problems == {"jobs": "Timeout"})
        assert observed.status == "starting"


async def test_a_pod_waits_for_its_owner(api, observing):
    async with observing(bounds={"owner_seconds": 0.6}) as observed:
        await ok(observed)
        api.put("pods", pod("web-1-0", ("ReplicaSet", "web-1")))
        api.put("pods", pod("lost-1-0", ("ReplicaSet", "lost-1")))
        api.put("replicasets", replicaset("web-1", "web"))
        api.put("deployments", deployment("web"))
        await observed.until(lambda: observed.workloads)
        assert list(observed.workloads) == ["default/Deployment/web"]
        await observed.until(lambda: "default/ReplicaSet/lost-1" in observed.workloads)
        api.put("replicasets", replicaset("lost-1", "found"))
        await observed.until(lambda: "default/Deployment/found" in observed.workloads)
        assert "default/ReplicaSet/lost-1" not in observed.workloads


@pytest.mark.parametrize("content", ["", "current-context: x", "clusters: [", "users: {}"])
async def test_a_kubeconfig_that_cannot_be_used(api, observing, tmp_path, content):
    (tmp_path / "kubeconfig").write_text(content)
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("") == "InvalidConfig")
        (tmp_path / "kubeconfig").write_text(kubeconfig(api.url))
        await ok(observed)
