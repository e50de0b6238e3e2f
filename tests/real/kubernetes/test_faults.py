"""What goes wrong between a cluster and its observer, and that it is said and got over."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pytest
from loguru import logger

from tests.real.controlplane import ApiError, ControlPlane
from tests.real.faultproxy import FaultProxy, fault_proxy
from tests.real.kubernetes.cluster import Cluster, pod, workload
from tests.real.kubernetes.conftest import Watching, connection
from tests.real.kubernetes.view import View, names, pods, problems, source
from tests.real.kubernetes.view import workload as shown
from tests.real.toxiproxy import Toxiproxy

PROMISE_SECONDS = 75
LATE_SECONDS = 5
RECOVERY_SECONDS = 30
HTML = "<html><head><title>502 Bad Gateway</title></head><body>secret-host</body></html>"
WATCH = "watch=true"
POD_WATCH = rf"/pods\?.*{WATCH}"


def denial(code: int, reason: str) -> str:
    """As the API server words it."""
    return (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        f'"message":"upstream-text","reason":"{reason}","code":{code}}}'
    )


def half(body: bytes) -> bytes:
    return body[: len(body) // 2] + b"\n"


class Fault(NamedTuple):
    """What a source meets, and what must be said of it when it lasts."""

    meet: Callable[[FaultProxy], None]
    reasons: set[str]
    quiet: bool = True
    """Whether nothing at all is reachable, so that one probe goes out, not one a watch."""


FAULTS = {
    "frozen": Fault(
        lambda proxy: proxy.freeze(f"/pods.*{WATCH}"), {"Timeout", "Unconfirmed"}, False
    ),
    "refused": Fault(
        lambda proxy: proxy.answer(".", 401, denial(401, "Unauthorized")), {"Unauthorized"}
    ),
    "broken": Fault(
        lambda proxy: proxy.answer(".", 500, denial(500, "InternalError")),
        {"Unreachable", "BadAnswer"},
    ),
    "html": Fault(
        lambda proxy: proxy.answer(".", 502, HTML, content_type="text/html"),
        {"Unreachable", "BadAnswer"},
    ),
    "cut-short": Fault(lambda proxy: proxy.change(".", half), {"BadAnswer"}, False),
    "limited": Fault(
        lambda proxy: proxy.answer(".", 429, denial(429, "TooManyRequests"), retry_after="7"),
        {"RateLimited"},
    ),
}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    kept: list[str] = []
    sink = logger.add(lambda message: kept.append(str(message)), level="INFO")
    yield kept
    logger.remove(sink)


@asynccontextmanager
async def probed(view: View) -> AsyncIterator[None]:
    """The endpoint answers all the while."""
    times: list[float] = []

    async def probe() -> None:
        while True:
            for path in ("/livez", "/readyz", "/system/state"):
                start = monotonic()
                assert (await view.live.client.get(path)).status_code == 200
                times.append(monotonic() - start)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(probe())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
    assert sorted(times)[len(times) * 99 // 100] < 1


@pytest.mark.alone
async def test_lasting_faults_are_reported_within_the_promise_and_end(
    cluster: Cluster,
    watching: Watching,
    toxiproxy: Toxiproxy,
    control_plane: ControlPlane,
    lines: list[str],
) -> None:
    async with AsyncExitStack() as stack:
        proxies = {
            name: await stack.enter_async_context(
                fault_proxy(control_plane.server, str(control_plane.ca))
            )
            for name in FAULTS
        }
        tcp = {
            name: toxiproxy.proxy(f"127.0.0.1:{control_plane.port}") for name in ("dead", "hung")
        }
        urls = {name: proxy.url for name, proxy in proxies.items()}
        urls |= {name: f"https://127.0.0.1:{proxy.port}" for name, proxy in tcp.items()}
        configs = {
            name: {
                "collector": "kubernetes",
                **connection(control_plane.kubeconfig(f"{cluster.namespace}-{name}", server=url)),
                "namespaces": [cluster.namespace],
            }
            for name, url in urls.items()
        }
        await cluster.make("Deployment", workload("web"))
        await cluster.make("Deployment", workload("goes"))
        view = await stack.enter_async_context(watching(sources=configs))
        everyone = ["kubernetes", *configs]
        for name in everyone:
            await view.until(lambda state, name=name: complete(state, name, 1))
        await stack.enter_async_context(probed(view))

        lines.clear()
        met = monotonic()
        tcp["dead"].down()
        tcp["hung"].toxic("timeout", timeout=0)
        tcp["hung"].toxic("timeout", stream="upstream", timeout=0)
        for name, proxy in proxies.items():
            FAULTS[name].meet(proxy)
            if FAULTS[name].quiet:
                proxy.cut(WATCH)
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 2}}, "scale")
        await cluster.delete("Deployment", "goes")
        await view.until(
            lambda state: complete(state, "kubernetes", 2) and gone(state, "kubernetes")
        )
        await asyncio.sleep(met + 10 - monotonic())
        for name, proxy in proxies.items():
            if FAULTS[name].quiet:
                assert 1 <= len(proxy.asked(".", since=met)) <= 10, name

        for name in configs:
            left = met + PROMISE_SECONDS + LATE_SECONDS - monotonic()
            await view.until(
                lambda state, name=name: source(state, name)["status"] == "stale", left
            )
        state = await view.state()
        assert source(state)["status"] == "ok"
        for name in configs:
            row = source(state, name)
            expected = FAULTS[name].reasons if name in FAULTS else {"Unreachable", "Timeout"}
            assert {why for _, why in problems(row)} - {"MetricsUnavailable"} <= expected, row
            # What was known stays; what changed meanwhile is not known.
            assert complete(state, name, 1)
            assert not gone(state, name)
            assert row["last_ok_at"] is not None
        (frozen,) = (
            one for one in problems(source(state, "frozen")) if one[1] in ("Timeout", "Unconfirmed")
        )
        assert "pods" in frozen[0]
        assert "upstream-text" not in str(state)
        assert "secret-host" not in str(state)
        minutes = (monotonic() - met) / 60
        for name in configs:
            # It becomes degraded, then stale; its findings have lines of their own.
            told = [line for line in lines if re.search(rf"\bsource {name}\b", line)]
            assert len(told) <= 2 + minutes, told

        healed = monotonic()
        for proxy in (*proxies.values(), *tcp.values()):
            proxy.heal()
        for name in everyone:
            left = healed + RECOVERY_SECONDS - monotonic()
            await view.until(
                lambda state, name=name: (
                    source(state, name)["status"] == "ok"
                    and complete(state, name, 2)
                    and gone(state, name)
                ),
                left,
            )
        state = await view.state()
        for name in everyone:
            assert {why for _, why in problems(source(state, name))} <= {"MetricsUnavailable"}


def complete(state: Any, name: str, count: int) -> bool:
    """Whether this source shows so many pods that run."""
    found = shown(state, "web", source=name)
    running = [one for one in found["pods"] if one["status"] == "Running"]
    return len(running) == count == len(found["pods"])


def gone(state: Any, name: str) -> bool:
    return shown(state, "goes", source=name) is None


@pytest.mark.alone
async def test_a_server_that_is_down_at_the_start(
    cluster: Cluster, watching: Watching, toxiproxy: Toxiproxy, control_plane: ControlPlane
) -> None:
    proxy = toxiproxy.proxy(f"127.0.0.1:{control_plane.port}")
    proxy.down()
    await cluster.make("Deployment", workload("web"))
    async with watching(server=f"https://127.0.0.1:{proxy.port}") as view:
        await view.until(lambda state: "Unreachable" in {why for _, why in problems(source(state))})
        state = await view.state()
        assert source(state)["status"] == "starting"
        assert state["workload"] == []
        assert (await view.live.client.get("/readyz")).status_code == 200
        proxy.heal()
        await view.until(
            lambda state: source(state)["status"] == "ok" and pods(state, "web", status="Running"),
            RECOVERY_SECONDS,
        )


async def test_it_stops_while_the_server_hangs(
    cluster: Cluster,
    watching: Watching,
    toxiproxy: Toxiproxy,
    control_plane: ControlPlane,
    lines: list[str],
) -> None:
    proxy = toxiproxy.proxy(f"127.0.0.1:{control_plane.port}")
    await cluster.make("Deployment", workload("web"))
    async with watching(server=f"https://127.0.0.1:{proxy.port}") as view:
        await view.until(lambda state: complete(state, "kubernetes", 1))
        proxy.toxic("timeout", timeout=0)
        proxy.toxic("timeout", stream="upstream", timeout=0)
        left = monotonic()
    assert monotonic() - left < 3
    assert not [line for line in lines if "did not stop" in line]
    proxy.heal()


@pytest.fixture
async def uncached(control_plane: ControlPlane) -> AsyncIterator[None]:
    """The API server without a watch cache of pods, as etcd alone can say that all is too old."""
    before = control_plane.apiserver_flags

    def restart(flags: tuple[str, ...]) -> None:
        control_plane.stop("kube-apiserver", kill=True)
        control_plane.apiserver_flags = flags
        control_plane.start("kube-apiserver")

    await asyncio.to_thread(restart, (*before, "--watch-cache-sizes=pods#0"))
    yield
    await asyncio.to_thread(restart, before)


async def test_restarted_server_without_history_is_listed_again(
    cluster: Cluster, watching: Watching, toxiproxy: Toxiproxy, control_plane: ControlPlane
) -> None:
    """Deletes during an outage, then a compaction, then a new API server: 410 Gone, for real."""
    proxy = toxiproxy.proxy(f"127.0.0.1:{control_plane.port}")
    await cluster.make("Deployment", workload("web"))
    await cluster.make("Deployment", workload("goes"))
    async with watching(server=f"https://127.0.0.1:{proxy.port}") as view:
        await view.until(lambda state: complete(state, "kubernetes", 1))
        proxy.down()
        await cluster.delete("Deployment", "goes")
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 2}}, "scale")
        async with asyncio.timeout(20):
            while len(await cluster.all("Pod")) != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await asyncio.to_thread(control_plane.stop, "kube-apiserver", kill=True)
        await asyncio.to_thread(control_plane.compact)
        await asyncio.to_thread(control_plane.start, "kube-apiserver")
        assert complete(await view.state(), "kubernetes", 1)
        proxy.heal()
        await view.until(
            lambda state: (
                complete(state, "kubernetes", 2)
                and gone(state, "kubernetes")
                and source(state)["status"] == "ok"
            ),
            RECOVERY_SECONDS,
        )


@pytest.mark.usefixtures("uncached")
async def test_expired_watch_lists_again(
    cluster: Cluster, watching: Watching, proxy: FaultProxy, control_plane: ControlPlane
) -> None:
    """410 Gone in a stream, for real, and on a list; what was deleted meanwhile is dropped."""
    gone_lines: list[bytes] = []

    def spy(body: bytes) -> bytes:
        if b'"code":410' in body:
            gone_lines.append(body)
        return body

    await cluster.make("Deployment", workload("web"))
    async with watching(server=proxy.url) as view:
        await view.until(lambda state: complete(state, "kubernetes", 1))
        proxy.change(POD_WATCH, spy)
        proxy.freeze(POD_WATCH)
        proxy.cut(POD_WATCH)
        (old,) = await cluster.all("Pod")
        await cluster.delete("Pod", old["metadata"]["name"])
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 2}}, "scale")
        async with asyncio.timeout(20):
            while len(await running(cluster)) != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await asyncio.to_thread(control_plane.compact)
        assert pods(await view.state(), "web")[0]["pod_id"] == old["metadata"]["name"]
        proxy.answer(r"/pods\?limit", 410, denial(410, "Expired"), times=1)
        proxy.answer("/pods.*sendInitialEvents", 422, denial(422, "Invalid"))
        proxy.thaw()
        await view.until(lambda state: complete(state, "kubernetes", 2), RECOVERY_SECONDS)
        assert len(gone_lines) == 1
        assert len(proxy.asked(r"/pods\?limit")) == 2
        assert sorted(names(pods(await view.state(), "web"))) == sorted(await running(cluster))


async def running(cluster: Cluster) -> list[str]:
    return [
        item["metadata"]["name"]
        for item in await cluster.all("Pod")
        if item["status"]["phase"] == "Running" and "deletionTimestamp" not in item["metadata"]
    ]


@pytest.mark.usefixtures("uncached")
async def test_list_that_expires_between_pages_begins_again(
    cluster: Cluster, watching: Watching, proxy: FaultProxy, control_plane: ControlPlane
) -> None:
    """A server without WatchList, and 410 Gone on a `continue` token, for real."""

    def forget(body: bytes) -> bytes:
        if not compacted:
            compacted.append(True)
            control_plane.call(
                "PATCH", cluster.path("Pod") + "/p-0", {"metadata": {"labels": {"n": "1"}}}
            )
            control_plane.compact()
        return body

    compacted: list[bool] = []
    many = 600
    body = {"schedulerName": "nobody", "tended": False}
    await asyncio.gather(*(cluster.make("Pod", pod(f"p-{n}", **body)) for n in range(many)))
    proxy.answer("/pods.*sendInitialEvents", 422, denial(422, "Invalid"))
    proxy.change(r"/pods\?limit=500$", forget)
    async with watching(server=proxy.url) as view:
        await view.until(lambda state: len(state["workload"]) == many, RECOVERY_SECONDS)
        await view.until(lambda state: source(state)["status"] == "ok")
    assert 410 in [status for line, status in proxy.statuses if "continue=" in line]


async def test_rotated_tokens_are_loaded_again(
    cluster: Cluster,
    watching: Watching,
    proxy: FaultProxy,
    toxiproxy: Toxiproxy,
    control_plane: ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The account is made anew, so that its old token is refused: 401, for real.

    Of two sources, one has the token in its kubeconfig, the other, in a cluster, in a file.
    """
    await cluster.make("Deployment", workload("web"))
    token = await asyncio.to_thread(control_plane.account, cluster.namespace, "reader")
    await may_view(cluster)
    tcp = toxiproxy.proxy(f"127.0.0.1:{control_plane.port}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(tcp.port))
    install_collector(tmp_path / "site", monkeypatch, account=tmp_path)
    (tmp_path / "ca.crt").write_bytes(control_plane.ca.read_bytes())
    (tmp_path / "namespace").write_text(cluster.namespace)
    (tmp_path / "token").write_text(token)
    pod_source = {"collector": "kubernetes-elsewhere", "config": "in-cluster"}
    async with watching(server=proxy.url, token=token, sources={"pod": pod_source}) as view:
        for name in ("kubernetes", "pod"):
            await view.until(lambda state, name=name: complete(state, name, 1))
        account = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/reader"
        await cluster.call("DELETE", account)
        fresh = await asyncio.to_thread(control_plane.account, cluster.namespace, "reader")
        async with asyncio.timeout(30):
            while await _accepted(cluster, token):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        proxy.cut(WATCH)
        tcp.down()
        tcp.heal()
        for name in ("kubernetes", "pod"):
            await view.until(
                lambda state, name=name: (
                    "Unauthorized" in {why for _, why in problems(source(state, name))}
                )
            )
        assert token not in str(await view.state())
        await asyncio.to_thread(control_plane.kubeconfig, cluster.namespace, fresh, proxy.url)
        (tmp_path / "token").write_text(fresh)
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 2}}, "scale")
        for name in ("kubernetes", "pod"):
            await view.until(lambda state, name=name: complete(state, name, 2), RECOVERY_SECONDS)


ELSEWHERE = """
from functools import partial
from pathlib import Path
from msgspec.structs import replace
from telemetron_collectors.kubernetes import collector, observer

collector = replace(collector, run=partial(observer.observe, account=Path({account!r})))
"""


def install_collector(site: Path, monkeypatch: pytest.MonkeyPatch, account: Path) -> None:
    """Install `kubernetes-elsewhere`, which finds its service account in another folder."""
    info = site / "elsewhere-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    point = "[telemetron.collectors]\nkubernetes-elsewhere = elsewhere:collector\n"
    (info / "entry_points.txt").write_text(point)
    (site / "elsewhere.py").write_text(ELSEWHERE.format(account=str(account)))
    monkeypatch.syspath_prepend(site)


async def may_view(cluster: Cluster) -> None:
    """Let the account `reader` see all, by the role that every cluster has."""
    group = "rbac.authorization.k8s.io"
    body = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": cluster.namespace}],
    }
    await cluster.make("RoleBinding", body)


async def _accepted(cluster: Cluster, token: str) -> bool:
    try:
        await cluster.call("GET", cluster.path("Pod"), token=token)
    except ApiError as error:
        return error.status != 401
    return True


async def test_watches_that_are_closed_at_once(
    cluster: Cluster, watching: Watching, proxy: FaultProxy
) -> None:
    await cluster.make("Deployment", workload("web"))
    async with watching(server=proxy.url) as view:
        await view.until(lambda state: complete(state, "kubernetes", 1))
        met = monotonic()
        proxy.answer(WATCH, 200, "")
        proxy.cut(WATCH)
        await asyncio.sleep(10)
        asked = len(proxy.asked(WATCH, since=met))
        assert 1 <= asked <= 7 * 10, asked
        proxy.heal()
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 2}}, "scale")
        await view.until(lambda state: complete(state, "kubernetes", 2), RECOVERY_SECONDS)


async def test_malformed_object_hides_no_other(
    cluster: Cluster, watching: Watching, proxy: FaultProxy
) -> None:
    def odd(body: bytes) -> bytes:
        return b"".join(
            re.sub(rb'"restartCount":\d+', b'"restartCount":"many"', line)
            if b'"name":"odd-' in line
            else line
            for line in body.splitlines(keepends=True)
        )

    proxy.change(f"/pods.*{WATCH}", odd)
    await cluster.make("Deployment", workload("odd"))
    await cluster.make("Deployment", workload("web"))
    async with watching(server=proxy.url) as view:
        await view.until(lambda state: complete(state, "kubernetes", 1))
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 3}}, "scale")
        state = await view.until(lambda state: complete(state, "kubernetes", 3) and state)
        assert source(state)["status"] == "ok"


async def test_too_many_requests_obeys_retry_after(
    cluster: Cluster, watching: Watching, proxy: FaultProxy
) -> None:
    await cluster.make("Deployment", workload("web"))
    proxy.answer(".", 429, denial(429, "TooManyRequests"), times=1, retry_after="4")
    start = monotonic()
    async with watching(server=proxy.url) as view:
        await view.until(lambda state: complete(state, "kubernetes", 1))
        first, second = sorted(one.at for one in proxy.seen)[:2]
        assert second - first >= 4, [one.at - start for one in proxy.seen]


async def test_clocks_that_differ(cluster: Cluster, watching: Watching, proxy: FaultProxy) -> None:
    """The cluster's times are shown as the cluster says them; no promise depends on them."""

    def later(body: bytes) -> bytes:
        return re.sub(rb'Timestamp":"20(\d\d)', lambda year: b'Timestamp":"21' + year[1], body)

    proxy.change(".", later)
    await cluster.make("Deployment", workload("web"))
    async with watching(server=proxy.url) as view:
        state = await view.until(lambda state: complete(state, "kubernetes", 1) and state)
        (one,) = shown(state, "web")["pods"]
        assert one["created_at"].startswith("21")
        await view.until(lambda state: source(state)["status"] == "ok")
