"""`python -m bench.informer READER FILE NAMESPACE`: one reader of a cluster in its own process.

READER is `telemetron` (the collector and the store), `bare` (the same WatchList streams, read and
thrown away) or `models` (kubernetes-asyncio's own list, with its models). FILE is a configuration
with one source, whose kubeconfig all of them use. Prints the seconds and the memory as JSON.
"""

import asyncio
import gc
import json
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop

from bench.process import SERVER_CORE, pin
from bench.synthetic import LoopTimes

SETTLE_SECONDS = 1.0
KINDS = ("api/v1/{}/pods", "apis/apps/v1/{}/deployments", "apis/apps/v1/{}/replicasets")
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
STREAM = (
    ("watch", "true"),
    ("sendInitialEvents", "true"),
    ("resourceVersionMatch", "NotOlderThan"),
    ("allowWatchBookmarks", "true"),
)
END = b'"k8s.io/initial-events-end":"true"'


async def telemetron(file: str, namespace: str) -> Callable[[], Awaitable[Any]]:
    """Run until everything is published and the source is ok."""
    import telemetron_collectors.kubernetes  # noqa: F401
    from telemetron.config.settings import load
    from telemetron.service.supervisor import Supervisor
    from telemetron.store.store import Publication, Store

    settings = load(file, {})
    store = Store("bench")
    supervisor = Supervisor(store)

    async def read() -> Any:
        done = asyncio.Event()

        def look(_: Publication) -> None:
            if store.sources["kubernetes"].status == "ok":
                done.set()

        store.watchers.append(look)
        supervisor.start(settings.sources.values())
        await done.wait()
        return supervisor

    return read


async def bare(file: str, namespace: str) -> Callable[[], Awaitable[Any]]:
    """Read until each stream says that the list is complete; decode and keep nothing."""
    client = await _client(file)

    async def stream(path: str) -> int:
        accept = PARTIAL if path.endswith("replicasets") else "application/json"
        response = await _ask(client, path, namespace, STREAM, accept)
        size, tail = 0, b""
        while END not in tail:
            chunk = await response.content.readany()
            size += len(chunk)
            tail = (tail + chunk)[-4096:]
        response.close()
        return size

    async def read() -> Any:
        return await asyncio.gather(*map(stream, KINDS))

    return read


async def models(file: str, namespace: str) -> Callable[[], Awaitable[Any]]:
    """Read until its own lists have arrived, as objects."""
    from kubernetes_asyncio.client import AppsV1Api, CoreV1Api

    client = await _client(file)

    async def read() -> Any:
        core, apps = CoreV1Api(client), AppsV1Api(client)
        return await asyncio.gather(
            core.list_namespaced_pod(namespace),
            apps.list_namespaced_deployment(namespace),
            apps.list_namespaced_replica_set(namespace),
        )

    return read


async def _client(file: str) -> Any:
    from kubernetes_asyncio.client import ApiClient, Configuration
    from kubernetes_asyncio.config import load_kube_config

    configuration = Configuration()
    source = json.loads(Path(file).read_text())["sources"]["kubernetes"]  # noqa: ASYNC240
    await load_kube_config(config_file=source["kubeconfig"], client_configuration=configuration)
    return ApiClient(configuration)


async def _ask(client: Any, path: str, namespace: str, query: Any, accept: str) -> Any:
    return await client.call_api(
        "/" + path.format(f"namespaces/{namespace}"),
        "GET",
        query_params=list(query),
        header_params={"Accept": accept},
        auth_settings=["BearerToken"],
        _preload_content=False,
    )


async def measured(reader: str, file: str, namespace: str) -> dict[str, Any]:
    """Run one reader."""
    read = await globals()[reader](file, namespace)
    await asyncio.sleep(SETTLE_SECONDS)
    gc.collect()
    before = _resident()
    times = LoopTimes()
    ticking = asyncio.create_task(_tick(times))
    start = perf_counter()
    kept = await read()
    seconds = perf_counter() - start
    await asyncio.sleep(SETTLE_SECONDS)
    ticking.cancel()
    del kept
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds,
        "added": (_resident() - before) / 1e6,
        "peak": (peak - before) / 1e6,
        "longest": max(times.cpu),
        "gc": max(times.gc),
    }


async def _tick(times: LoopTimes) -> None:
    while True:
        await times.tick()


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    pin(SERVER_CORE)
    print(json.dumps(uvloop.run(measured(*sys.argv[1:4]))), flush=True)
    os._exit(0)  # the remaining tasks need no clean end
