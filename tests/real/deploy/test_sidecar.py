"""The sidecar as it is deployed: its image and an agent in one network, and a kubelet's probes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.real.deploy.image import Image, container
from tests.real.deploy.kustomize import DEPLOY, kustomization, render
from tests.real.process import running, wait_until

ADDRESS = "10.0.0.7"
AGENT = """
import sys, time
from telemetron_agent import Agent

agent = Agent("planner", interval=1)
with agent.task("t") as task:
    while True:
        task.progress("step")
        time.sleep(0.5)
"""


class Pod(NamedTuple):
    """The sidecar and the agent's container as rendered, and whose network is theirs."""

    sidecar: Any
    agent: Any
    pid: int

    def get(self, host: str, port: int, path: str) -> tuple[int, str]:
        """Status and body of a request from within the pod's network; 0 where nobody answers."""
        curl = ["curl", "-s", "-m", "5", "-w", "\n%{http_code}", f"http://{host}:{port}{path}"]
        shown = subprocess.run(
            [*self.inside, *curl],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        body, _, status = shown.stdout.rpartition("\n")
        return int(status), body

    def probe(self, container: Any, name: str) -> int:
        """The status that a kubelet gets, which asks the pod's address."""
        asked = container[name]["httpGet"]
        return self.get(ADDRESS, asked["port"], asked["path"])[0]

    @property
    def inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]


@pytest.fixture
def pod(image: Image, tmp_path: Path) -> Iterator[Pod]:
    """A network of its own, with an address, and the sidecar in it."""
    deployment, config = rendered(tmp_path)
    spec = deployment["spec"]["template"]["spec"]
    (sidecar,), (agent,) = spec["initContainers"], spec["containers"]
    (where,) = [mount["mountPath"] for mount in sidecar["volumeMounts"]]
    files = tmp_path / "config"
    files.mkdir()
    for name, text in config["data"].items():
        (files / name).write_text(text)
    inside = tmp_path / "container"
    inside.mkdir()
    with container(
        image, inside, command=sidecar["args"], files={where: files}, address=ADDRESS
    ) as process:
        pod = Pod(sidecar, agent, process.pid)
        wait_until(
            lambda: pod.probe(sidecar, "startupProbe") == 200, seconds=60, what="the sidecar"
        )
        yield pod


def rendered(folder: Path) -> tuple[Any, Any]:
    """An agent's Deployment with the component, and the component's ConfigMap."""
    template = {"spec": {"containers": [{"name": "agent", "image": "agent"}]}}
    agent = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "planner"},
        "spec": {"template": template},
    }
    (folder / "agent.yaml").write_text(yaml.safe_dump(agent))
    kustomization(folder, folder / "agent.yaml", components=["sidecar"])
    by_kind = {each["kind"]: each for each in render(folder)}
    return by_kind["Deployment"], by_kind["ConfigMap"]


@contextmanager
def agent(pod: Pod, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the SDK, with the variables that the component gives it."""
    values = {each["name"]: each.get("value", "planner-0") for each in pod.agent["env"]}
    command = [*pod.inside, sys.executable, "-c", AGENT]
    with running(command, env=values, log=folder / "agent.log") as process:
        yield process


def status(pod: Pod) -> str | None:
    """The agent's, as whoever reads on the pod's loopback sees it."""
    code, body = pod.get("127.0.0.1", port(pod), "/system/state")
    assert code == 200
    return next((one["status"] for one in json.loads(body)["agents"]), None)


def port(pod: Pod) -> int:
    """Where the agent beats."""
    (url,) = [each["value"] for each in pod.agent["env"] if each["name"] == "TELEMETRON_URL"]
    return int(url.rpartition(":")[2])


def test_the_whole_interface_is_on_loopback_and_only_probes_are_outside(pod: Pod) -> None:
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod.probe(pod.sidecar, name) == 200
    for name in ("startupProbe", "livenessProbe"):
        assert pod.probe(pod.agent, name) == 200  # nobody knows it yet
    assert pod.get("127.0.0.1", port(pod), "/system/state")[0] == 200
    assert pod.get(ADDRESS, port(pod), "/livez")[0] == 0
    probes = pod.sidecar["livenessProbe"]["httpGet"]["port"]
    for path in ("/system/state", "/metrics", "/", "/agents/planner/heartbeat"):
        assert pod.get(ADDRESS, probes, path)[0] == 404


def test_an_agent_is_dead_by_evidence_and_alive_again(pod: Pod, tmp_path: Path) -> None:
    with agent(pod, tmp_path) as first:
        wait_until(lambda: status(pod) == "active", seconds=60, what="the agent")
        assert pod.probe(pod.agent, "livenessProbe") == 200
        first.send_signal(signal.SIGSTOP)  # it hangs
        wait_until(lambda: quick(pod) == 503, seconds=60, what="evidence")
        assert pod.probe(pod.agent, "livenessProbe") == 200  # not yet a minute
        first.kill()  # as the kubelet ends it: without a goodbye
        first.wait()
    assert quick(pod) == 503  # the startup probe gives the next life its time
    with agent(pod, tmp_path) as second:
        wait_until(lambda: quick(pod) == 200, seconds=60, what="the next life")
        second.terminate()  # a goodbye, or a kill: what is not known is not held against it
        second.wait(10)


def quick(pod: Pod) -> int:
    """The agent's liveness probe, but for its patience: three intervals of a second."""
    asked = pod.agent["livenessProbe"]["httpGet"]
    path = asked["path"].replace("max_silence=60s", "max_silence=1s")
    assert path != asked["path"]
    return pod.get(ADDRESS, asked["port"], path)[0]


def test_the_ports_agree_with_the_page() -> None:
    page = (DEPLOY.parents[1] / "docs" / "deployment.md").read_text("utf-8")
    config = yaml.safe_load((DEPLOY / "sidecar" / "telemetron.yaml").read_text())["server"]
    assert f"kubectl port-forward POD {config['port']}" in page
    assert f"Port {config['probe_port']}" in page
