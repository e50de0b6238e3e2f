"""Usage figures, and the problems without them."""

import msgspec
import pytest
from aiohttp import web

from telemetron_collectors.kubernetes.usage import PodMetrics, usage_of
from tests.collectors.kubernetes.apiserver import status
from tests.collectors.kubernetes.things import AT, pod

METRICS = "/apis/metrics.k8s.io/v1beta1/pods"
LATER = "2026-11-28T10:05:00Z"


def metrics(name, *containers, at=LATER):
    usage = [
        {"name": f"c{i}", "usage": {"cpu": c, "memory": m}} for i, (c, m) in enumerate(containers)
    ]
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "timestamp": at, "window": "15s", "containers": usage}


def serving(*items):
    async def answer(request):
        return web.json_response({"kind": "PodMetricsList", "items": list(items)})

    return answer


def refusing(code):
    async def answer(request):
        return status(code)

    return answer


def metrics_problem(observed):
    return {
        one.scope: one.reason for one in observed.source.row().problems if "metrics" in one.scope
    }


QUICK = 0.3
"""Seconds between two polls; the configuration allows no such value."""


def test_containers_are_summed_and_rounded():
    one = metrics("p", ("3482911n", "51200Ki"), ("250m", "1Mi"))
    usage = usage_of(msgspec.convert(one, PodMetrics, strict=False))
    assert (usage.cpu, usage.memory) == (0.25, 51.0)


WITHOUT = [
    (None, (None, None)),
    ([], (None, None)),
    ([{}], (None, None)),
    ([{"usage": {}}], (None, None)),
    ([{"usage": {"cpu": "250m"}}], (0.25, None)),
    ([{"usage": {"memory": "64Mi"}}], (None, 64.0)),
    ([{"usage": {"cpu": "0", "memory": "0"}}], (0.0, 0.0)),
    ([{"usage": {"cpu": "1", "memory": "1Mi"}}, {"usage": {"cpu": "1"}}], (2.0, None)),
    ([{"usage": {"cpu": "-1m", "memory": "1Mi"}}], (None, 1.0)),
    ([{"usage": {"cpu": "1", "memory": "-1"}}], (1.0, None)),
    ([{"usage": {"cpu": 1, "memory": 1048576}}], (1.0, 1.0)),
    *[
        ([{"usage": {"cpu": odd, "memory": "1Mi"}}], (None, 1.0))
        for odd in (
            "x",
            "",
            "NaN",
            "Infinity",
            "1e999999999",
            "1_0",
            " 1",
            "10E",
            True,
            [],
            {},
            None,
        )
    ],
]


@pytest.mark.parametrize(("containers", "figures"), WITHOUT)
def test_a_figure_that_any_container_lacks_is_null(containers, figures):
    one = {**metrics("p"), "containers": containers}
    usage = usage_of(msgspec.convert(one, PodMetrics, strict=False))
    assert (usage.cpu, usage.memory) == figures


async def test_malformed_figures_of_a_pod_hide_no_other(api, observing):
    for name in ("a", "b", "c", "d"):
        api.put("pods", pod(name))
    half = {**metrics("b"), "containers": [{"usage": {"cpu": "1"}}]}
    none = metrics("c")
    odd = {"metadata": {"name": "d", "namespace": "default"}, "timestamp": "noon"}
    api.extra[METRICS] = serving(odd, {}, 7, none, half, metrics("a", ("500m", "64Mi")))
    async with observing(metrics_interval_seconds=QUICK) as observed:

        def figures(name):
            one = observed.workloads[f"default/Pod/{name}"].pods[0]
            return one.cpu, one.memory, one.measured_at is not None

        await observed.until(lambda: observed.workloads and figures("a") == (0.5, 64.0, True))
        assert figures("b") == (1.0, None, True)
        assert figures("c") == figures("d") == (None, None, False)
        assert (metrics_problem(observed), observed.status) == ({"metrics": "BadAnswer"}, "ok")
        assert observed.message("metrics").endswith("null: 5")
        api.extra[METRICS] = serving(metrics("a", ("500m", "64Mi")))
        await observed.until(lambda: metrics_problem(observed) == {})


async def test_old_figures_expire_while_polls_fail(api, observing):
    api.put("pods", pod("a"))
    api.put("pods", pod("b"))
    api.extra[METRICS] = serving(metrics("a", ("500m", "64Mi")), metrics("unknown", ("1", "1Mi")))
    async with observing(metrics_interval_seconds=QUICK) as observed:

        def a():
            return observed.workloads["default/Pod/a"].pods[0]

        await observed.until(lambda: observed.workloads and a().cpu == 0.5)
        assert (a().memory, a().measured_at.isoformat()) == (64.0, "2026-11-28T10:05:00+00:00")
        assert observed.workloads["default/Pod/b"].pods[0].cpu is None
        assert observed.status == "ok"
        assert metrics_problem(observed) == {}
        api.extra[METRICS] = refusing(503)
        await observed.until(lambda: metrics_problem(observed) == {"metrics": "MetricsUnavailable"})
        await observed.until(lambda: a().cpu is None)
        assert (a().memory, a().measured_at, observed.status) == (None, None, "ok")
        api.extra[METRICS] = serving(metrics("a", ("1", "64Mi")))
        await observed.until(lambda: a().cpu == 1)
        assert metrics_problem(observed) == {}
        api.extra[METRICS] = serving()
        await observed.until(lambda: a().cpu is None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, "MetricsUnavailable"),
        (403, "Forbidden"),
        (410, "MetricsUnavailable"),
        (503, "MetricsUnavailable"),
    ],
)
async def test_unavailable_figures_are_a_problem(api, observing, code, reason):
    api.extra[METRICS] = refusing(code)
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert metrics_problem(observed) == {"metrics": reason}
        assert "pods.metrics.k8s.io" in observed.message("metrics")
        assert observed.workloads["default/Pod/a"].pods[0].cpu is None


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        '{"items":{}}',
    ],
)
async def test_malformed_response_makes_figures_unavailable(api, observing, body):
    async def answer(request):
        return web.Response(text=body)

    api.extra[METRICS] = answer
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert metrics_problem(observed) == {"metrics": "MetricsUnavailable"}


async def test_response_that_is_too_large_makes_figures_unavailable(api, observing):
    api.extra[METRICS] = serving(metrics("a", ("500m", "64Mi")))
    async with observing(bounds={"body_bytes": 10}) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert "too large" in observed.message("metrics")


async def test_recreated_pod_has_figures_of_its_own(api, observing):
    api.put("pods", pod("a"))
    api.extra[METRICS] = serving(metrics("a", ("500m", "64Mi"), at="2026-11-28T09:00:00Z"))
    async with observing() as observed:

        def cpu():
            return [one.pods[0].cpu for one in observed.workloads.values()]

        await observed.until(lambda: cpu() == [0.5])  # whatever the clocks say
        api.delete("pods", "a")
        api.put("pods", pod("a"))
        await observed.until(lambda: cpu() == [None])


async def test_sample_from_a_clock_ahead_of_ours_is_shown(api, observing):
    """Times of the API are only compared with each other."""
    later = "2099-11-28T10:00:00Z"
    api.put("pods", pod("a", creationTimestamp=later))
    api.extra[METRICS] = serving(metrics("a", ("500m", "64Mi"), at=later))
    async with observing() as observed:
        await observed.until(lambda: observed.workloads)
        await observed.until(lambda: observed.workloads["default/Pod/a"].pods[0].cpu == 0.5)
        assert observed.status == "ok"
        assert observed.workloads["default/Pod/a"].pods[0].created_at.year == 2099


async def test_sample_that_never_changes_expires(api, observing):
    api.put("pods", pod("a"))
    api.extra[METRICS] = serving(metrics("a", ("500m", "64Mi"), at=LATER))
    bounds = {"sample_seconds": 0.1}
    async with observing(metrics_interval_seconds=QUICK, bounds=bounds) as observed:

        def cpu():
            return observed.workloads["default/Pod/a"].pods[0].cpu

        await observed.until(lambda: observed.workloads and cpu() == 0.5)
        await observed.until(lambda: cpu() is None)


async def test_unreachable_server_is_not_polled(api, observing):
    async with observing(metrics_interval_seconds=QUICK) as observed:
        await observed.until(lambda: observed.status == "ok")
        api.faults["*"] = refusing(503)
        api.close_watches()
        await observed.until(lambda: "pods" in observed.problems)
        await observed.until(lambda: "not reachable" in observed.message("metrics"))


async def test_each_namespace_has_its_own_figures(api, observing):
    api.put("pods", pod("a"))
    api.put("pods", pod("b", namespace="other"))
    items = [metrics("a", ("1", "1Mi"))]
    api.extra["/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"] = serving(*items)
    api.extra["/apis/metrics.k8s.io/v1beta1/namespaces/other/pods"] = refusing(403)
    async with observing(namespaces=["default", "other"], label_selector="app=x") as observed:
        await observed.until(lambda: observed.status == "ok")
        await observed.until(lambda: observed.workloads["default/Pod/a"].pods[0].cpu == 1)
        assert metrics_problem(observed) == {"other/metrics": "Forbidden"}
        assert observed.message("other/metrics").endswith("pods.metrics.k8s.io in other")
    for path, query in api.requests:
        selected = not path.endswith(("replicasets", "horizontalpodautoscalers"))
        assert (query.get("labelSelector") == "app=x") == selected


SUMMARY = "/api/v1/nodes/{}/proxy/stats/summary"


def summary(name, received):
    reference = {"name": name, "namespace": "default", "uid": "u"}
    network = {"time": AT, "rxBytes": received, "txBytes": 7}
    return web.json_response({"pods": [{"podRef": reference, "network": network}]})


async def test_network_is_polled_from_each_node(api, observing):
    for number in (1, 2, 3):
        one = pod(f"p{number}")
        one["spec"]["nodeName"] = f"node-{number}"
        api.put("pods", one)

    async def first(request):
        return summary("p1", 5)

    async def html(request):
        return web.Response(text="<html>")

    api.extra[SUMMARY.format("node-1")] = first
    api.extra[SUMMARY.format("node-2")] = html
    async with observing(network=True) as observed:
        await observed.until(lambda: observed.status == "ok")
        await observed.until(lambda: observed.workloads["default/Pod/p1"].pods[0].network_in == 5)
        one = observed.workloads["default/Pod/p1"].pods[0]
        assert (one.network_out, one.cpu) == (7, None)
        assert observed.workloads["default/Pod/p2"].pods[0].network_in is None
        assert observed.message("network").startswith("2 of 3 nodes return no figures")
    assert not any("proxy" in path for path, _ in api.requests if "node-4" in path)


async def test_malformed_pod_of_a_summary_hides_no_other(api, observing):
    for name in ("a", "b", "c"):
        api.put("pods", pod(name))

    async def answer(request):
        pods = [
            {"podRef": {"name": name, "namespace": "default"}, "network": {"rxBytes": received}}
            for name, received in (("a", 5), ("b", -5), ("c", "many"))
        ]
        return web.json_response({"pods": [{}, *pods]})

    api.extra[SUMMARY.format("node-1")] = answer
    async with observing(network=True) as observed:
        await observed.until(lambda: observed.status == "ok")
        await observed.until(lambda: observed.workloads["default/Pod/a"].pods[0].network_in == 5)
        for name in ("b", "c"):
            assert observed.workloads[f"default/Pod/{name}"].pods[0].network_in is None
        assert observed.problems == {"network": "BadAnswer"}
        assert observed.message("network").endswith("null: 3")


async def test_network_is_forbidden(api, observing):
    api.put("pods", pod("a"))
    api.extra[SUMMARY.format("node-1")] = refusing(403)
    async with observing(network=True, metrics_interval_seconds=QUICK) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.problems == {"network": "Forbidden"}
        assert "get nodes/proxy" in observed.message("network")

        async def known(request):
            return summary("a", 9)

        api.extra[SUMMARY.format("node-1")] = known
        await observed.until(lambda: observed.workloads["default/Pod/a"].pods[0].network_in == 9)
        assert observed.problems == {}
