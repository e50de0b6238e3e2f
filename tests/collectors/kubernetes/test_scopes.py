"""Scopes: what a source reports if one of them cannot be listed or watched."""

import asyncio

from tests.collectors.kubernetes.apiserver import failing, status
from tests.collectors.kubernetes.things import deployment, pod, replicaset


async def test_forbidden_kind_is_a_problem_and_leaves_the_source_ok(api, observing):
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
        await observed.until_ok()


async def test_forbidden_autoscalers_make_max_pods_null(api, observing):
    api.faults["horizontalpodautoscalers"] = failing(then=lambda: status(403))
    api.put("deployments", deployment("web", 3))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.workloads["default/Deployment/web"].max_pods is None
        api.faults.clear()
        await observed.until_ok()
        await observed.until(lambda: observed.workloads["default/Deployment/web"].max_pods == 3)


async def test_lost_permission_makes_the_source_stale_and_keeps_the_objects(api, observing):
    api.put("deployments", deployment("web"))
    async with observing(promise=1) as observed:
        await observed.until_ok()
        api.faults["deployments"] = failing(then=lambda: status(403))
        api.close_watches()
        await observed.until(lambda: observed.problems == {"deployments": "Forbidden"})
        await observed.until(lambda: observed.status == "stale")
        assert observed.names == ["web"]


async def test_kind_that_the_server_does_not_serve_is_a_problem(api, observing):
    api.faults["horizontalpodautoscalers"] = failing(then=lambda: status(404))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: observed.names == ["a"])
        assert observed.problems == {"horizontalpodautoscalers": "BadAnswer"}


async def test_kind_that_is_listed_late_is_a_problem(api, observing):
    async def hang(request):
        await asyncio.sleep(60)

    api.faults["jobs"] = hang
    api.put("pods", pod("a"))
    async with observing(bounds={"first_seconds": 2}) as observed:
        await observed.until(lambda: observed.names == ["a"])
        # On a busy machine another may be late too, at first.
        await observed.until(lambda: observed.problems == {"jobs": "Timeout"})
        assert observed.status == "starting"
