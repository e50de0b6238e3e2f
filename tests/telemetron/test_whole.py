"""What Telemetron answers for recorded inputs of every built-in collector, byte for byte.

The inputs: objects of a real API server, pages of a real LiteLLM proxy, a Kafka broker's answers,
heartbeats, a declared agent. Times of this run, revisions and ports are replaced. After a change
that is meant, `python -m tests.telemetron.test_whole` writes the answers anew: read the difference.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from telemetron.config.settings import load
from telemetron.service.service import Service
from telemetron.service.supervisor import SupervisorLimits
from telemetron.web.app import App, server_options
from telemetron.web.server.server import running
from tests.collectors.kafka.scripted import Group, Log, Topic, batch, scripted
from tests.collectors.kubernetes.apiserver import apiserver
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.collectors.litellm.scripted import KEY, METRICS, Reply, ScriptedProxy

DATA = Path(__file__).parents[1] / "data"
BEATS = {
    "planner": {
        "instance": "planner-0",
        "namespace": "prod",
        "description": "Plans",
        "max_parallel_invocations": 4,
        "interval_seconds": 300,
        "models": ["gpt-4o", "unknown-model"],
        "queues": ["orders"],
        "tasks": [
            {"id": "t-1", "step": "reads", "model": "gpt-4o", "queue": "orders", "offset": 4},
            {"id": "t-2", "parent_id": "t-1", "waits": [{"kind": "llm", "name": "gpt-4o"}]},
        ],
        "ended": [
            {"id": "t-0", "status": "completed", "queue": "orders", "partition": 0, "offset": 3},
            {
                "id": "t-1",
                "status": "failed",
                "error": "Timeout",
                "ended_at": "2030-01-01T00:00:00Z",
            },
        ],
        "outcomes": {"completed": 7, "failed": 1},
    },
    "writer": {"instance": "web-0", "namespace": "default", "pod_id": "db-0"},
}
CONFIG = """
findings: "off"
agents: [{{name: auditor, namespace: prod, models: [gpt-4o]}}]
sources:
  heartbeats:
  kubernetes: {{config: kubeconfig, kubeconfig: {folder}/kubeconfig, metrics_interval_seconds: 60}}
  kafka: {{bootstrap_servers: ["{broker}"], queues: [{{topic: orders, groups: [workers]}}]}}
  litellm: {{url: "{proxy}", key_file: {folder}/key}}
"""
COUNTS = {"agents": 4, "workload": 13, "queues": 1, "litellm": 9}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
REPLACED = (
    (re.compile(r'"(epoch)": "[0-9a-f]+"'), r'"\1": "EPOCH"'),
    (re.compile(r'"(revision)": \d+'), r'"\1": 0'),
    (re.compile(r'"(from|to)": "[0-9a-f]+\.[-0-9]+"'), r'"\1": "PLACE"'),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
)


class Answers(NamedTuple):
    """What was answered, as text."""

    state: str
    changes: str
    metrics: str


@contextmanager
def inputs(folder: Path, broker: Any, api: Any, proxy: ScriptedProxy) -> Iterator[str]:
    """Say what was recorded; gives the configuration that observes it."""
    log = Log(end=6, high=6, records=batch(0, *[b'{"id": "o-%d"}' % n for n in range(6)]))
    broker.topics["orders"] = Topic(logs=[log])
    broker.groups["workers"] = Group(
        commits={"orders": {0: 4}}, members={"worker-1": {"orders": [0]}}
    )
    for file in sorted((DATA / "kubernetes").glob("*.json")):
        for item in json.loads(file.read_text())["items"]:
            api.put(file.stem, item)
    (folder / "kubeconfig").write_text(kubeconfig(api.url))
    for path, name in (
        ("/model/info", "model_info"),
        ("/provider/budgets", "provider_budgets"),
        ("/router/settings", "router_settings"),
        ("/health/readiness", "health_readiness"),
    ):
        if (file := DATA / "litellm/no-db" / f"{name}.json").exists():
            proxy.replies[path] = Reply(body=file.read_bytes())
    metrics = (DATA / "litellm/no-db/metrics.txt").read_bytes()
    proxy.replies["/metrics/"] = Reply(200, metrics, METRICS)
    (folder / "key").write_text(KEY)
    yield CONFIG.format(folder=folder, broker=broker.address, proxy=proxy.url)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    proxy = ScriptedProxy()
    await proxy.start()
    async with scripted() as broker, apiserver() as api:
        with inputs(folder, broker, api, proxy) as config:
            file = folder / "telemetron.yaml"
            file.write_text(config)
            settings = await asyncio.to_thread(load, str(file), {"SERVER_PORT": "0"})
            app = App(Service(settings, limits=SupervisorLimits(start_seconds=30)))
            async with (
                running(app, **server_options(app)) as url,
                httpx.AsyncClient(base_url=url, verify=False, timeout=50) as client,
            ):
                yield client
    await proxy.stop()


async def answers(folder: Path) -> Answers:
    """Serve what was recorded until all of it is there, and ask."""
    async with serving(folder) as client:
        start = (await client.get("/system/state")).json()
        for name, body in BEATS.items():
            answer = await client.post(f"/agents/{name}/heartbeat", json=body)
            assert answer.status_code == 204, answer.text
        state = await whole(client)
        since = f"{start['epoch']}.1"
        # The measures of a queue are recorded now and then, so not always the same ones.
        params = {"since": since, "sections": "agents,litellm,workload"}
        changes = (await client.get("/system/changes", params=params)).json()
        metrics = (await client.get("/metrics")).text
    return Answers(plain(state), plain(changes), shape(metrics))


async def whole(client: httpx.AsyncClient) -> Any:
    """The state, once it has all that was recorded and stays as it is."""
    async with asyncio.timeout(30):
        while True:
            state = (await client.get("/system/state")).json()
            counts = {name: len(state[name]) for name in COUNTS}
            rows = {row["key"]: row for row in state["sources"]}
            rows.pop("heartbeats")["status"] = "ok"  # for 10 s it is `starting`
            for off in ("findings", "rabbitmq"):
                rows.pop(off)
            if counts == COUNTS and {row["status"] for row in rows.values()} == {"ok"}:
                place = f"{state['epoch']}.{state['revision']}"
                params = {"since": place, "wait": "1500ms"}
                if (await client.get("/system/state", params=params)).status_code == 304:
                    return state
            await asyncio.sleep(0.05)


def plain(answer: Any) -> str:
    """Indented, without what differs from run to run."""
    text = MOMENT.sub(_moment, json.dumps(answer, indent=1, ensure_ascii=False))
    for pattern, replacement in REPLACED:
        text = pattern.sub(replacement, text)
    return text + "\n"


def _moment(found: re.Match[str]) -> str:
    """Times that were recorded stay."""
    age = abs(datetime.now(UTC) - datetime.fromisoformat(found[0]))
    return "NOW" if age < timedelta(hours=1) else found[0]


def shape(metrics: str) -> str:
    """The metrics without their values; those of the process are its library's."""
    metrics = re.sub(r'python="[^"]*"', 'python="VERSION"', metrics)
    lines = [line for line in metrics.splitlines() if "process_" not in line]
    return "".join(
        f"{re.sub(r' [^ ]+$', '', line) if line[0] != '#' else line}\n" for line in lines
    )


async def test_recorded_inputs_are_answered_as_they_were(tmp_path: Path) -> None:
    for name, text in (await answers(tmp_path))._asdict().items():
        (tmp_path / name).write_text(text)
        assert text == (DATA / "whole" / f"{name}.txt").read_text(), tmp_path / name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for name, text in asyncio.run(answers(Path(made)))._asdict().items():
            (DATA / "whole" / f"{name}.txt").write_text(text)
