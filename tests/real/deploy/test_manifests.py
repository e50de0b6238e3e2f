"""The manifests: built by kustomize, and applied to a real API server."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import telemetron
from telemetron.config.settings import load
from tests.real.controlplane import ControlPlane
from tests.real.deploy.cluster import Cluster, install_operator_kinds
from tests.real.deploy.kustomize import DEPLOY, Object, kustomization, one, render
from tests.real.process import wait_until

ROOT = DEPLOY.parents[1]
OVERLAYS = ("overlays/namespaced", "overlays/cluster")
COMPONENTS = (
    *("components/trial", "components/mcp", "components/monitoring", "components/nodes"),
    "components/kminion",
)
AGENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "planner"},
    "spec": {
        "selector": {"matchLabels": {"app": "planner"}},
        "template": {
            "metadata": {"labels": {"app": "planner"}},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "agent",
                        "image": "example.invalid/planner:1",
                        "env": [{"name": "MODE", "value": "fast"}],
                        "securityContext": {
                            "runAsNonRoot": True,
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                    }
                ],
            },
        },
    },
}


@pytest.fixture
def built(tmp_path: Path, cluster: Cluster) -> Callable[..., list[Object]]:
    """`built("overlays/cluster", "components/trial")`: the objects, for the cluster's namespace."""

    def build(overlay: str, *components: str) -> list[Object]:
        more: Any = {"components": components} if components else {}
        kustomization(tmp_path, overlay, namespace=cluster.namespace, **more)
        return render(tmp_path)

    return build


@pytest.fixture
def sidecar(tmp_path: Path) -> list[Object]:
    """An agent's Deployment with the sidecar, and the sidecar's ConfigMap."""
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(AGENT))
    kustomization(tmp_path, tmp_path / "agent.yaml", components=["sidecar"])
    return render(tmp_path)


def template(objects: list[Object]) -> Any:
    return one(objects, "Deployment")["spec"]["template"]


def container(objects: list[Object], name: str = "telemetron") -> Any:
    found = {each["name"]: each for each in template(objects)["spec"]["containers"]}
    return found[name]


def test_every_file_is_part_of_a_kustomization_that_is_tested() -> None:
    kinds = {path.parent for path in DEPLOY.rglob("kustomization.yaml")}
    assert kinds == {DEPLOY / name for name in ("base", "sidecar", *OVERLAYS, *COMPONENTS)}
    for folder in kinds:
        text = (folder / "kustomization.yaml").read_text()
        for file in folder.iterdir():
            assert file.name == "kustomization.yaml" or re.search(rf"\b{file.name}\b", text), file


@pytest.mark.parametrize("components", [(), COMPONENTS[:1], COMPONENTS[1:], COMPONENTS])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_service_is_taken_by_the_server_without_a_warning(
    control_plane: ControlPlane,
    cluster: Cluster,
    built: Callable[..., list[Object]],
    overlay: str,
    components: tuple[str, ...],
) -> None:
    if "components/monitoring" in components:
        install_operator_kinds(control_plane)
    objects = built(overlay, *components)
    if "components/trial" not in components:
        tokens = {role: role * 5 for role in ("read", "write", "metrics")}
        cluster.secret("telemetron-tokens", **tokens)
    cluster.apply(objects)
    # Real controllers make a pod of it, which the namespace's policy lets in and a node takes.
    wait_until(lambda: running(cluster), seconds=30, what="the pod")
    (pod,) = cluster.pods()
    assert pod["spec"]["serviceAccountName"] == "telemetron"
    assert cluster.get("endpoints", "telemetron")["subsets"]


def running(cluster: Cluster) -> bool:
    return [pod["status"].get("phase") for pod in cluster.pods()] == ["Running"]


def test_a_sidecar_is_taken_by_the_server_without_a_warning(
    cluster: Cluster, sidecar: list[Object]
) -> None:
    cluster.apply(sidecar)
    wait_until(lambda: running(cluster), seconds=30, what="the pod")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_service_is_one_restricted_process(
    built: Callable[..., list[Object]], overlay: str
) -> None:
    objects = built(overlay)
    deployment = one(objects, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert not [each for each in objects if each["kind"] in ("PodDisruptionBudget", "Secret")]
    pod, main = template(objects)["spec"], container(objects)
    assert pod["enableServiceLinks"] is False
    assert restrictions(pod, main) == RESTRICTED
    assert set(main["resources"]["requests"]) == {"cpu", "memory"}
    assert set(main["resources"]["limits"]) == {"memory"}
    assert main["image"] == f"telemetron:{telemetron.__version__}"


RESTRICTED = {
    "user": 65532,
    "root": False,
    "writable": False,
    "escalates": False,
    "drops": ["ALL"],
    "seccomp": "RuntimeDefault",
}


def restrictions(pod: Any, container: Any) -> dict[str, Any]:
    """What holds of the container, of its own or by its pod."""
    context = {**pod.get("securityContext", {}), **container["securityContext"]}
    return {
        "user": context["runAsUser"],
        "root": not context["runAsNonRoot"],
        "writable": not context["readOnlyRootFilesystem"],
        "escalates": context["allowPrivilegeEscalation"],
        "drops": context["capabilities"]["drop"],
        "seccomp": context["seccompProfile"]["type"],
    }


@pytest.mark.parametrize(("overlay", "kind"), [(OVERLAYS[0], "Role"), (OVERLAYS[1], "ClusterRole")])
def test_the_role_is_that_of_the_page(
    built: Callable[..., list[Object]], cluster: Cluster, overlay: str, kind: str
) -> None:
    objects = built(overlay)
    role, binding = one(objects, kind), one(objects, f"{kind}Binding")
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    told = [each for block in blocks for each in yaml.safe_load_all(block) if "rules" in each]
    assert told
    assert all(each["rules"] == role["rules"] for each in told)
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert subject["name"] == one(objects, "ServiceAccount")["metadata"]["name"]
    assert subject.get("namespace", cluster.namespace) == cluster.namespace


def config_of(objects: list[Object], name: str) -> str:
    """The configuration that the Deployment mounts."""
    (found,) = [
        each
        for each in objects
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith(f"{name}-")
        if "telemetron.yaml" in each["data"]
    ]
    volumes = template(objects)["spec"]["volumes"]
    assert found["metadata"]["name"] in {v.get("configMap", {}).get("name") for v in volumes}
    return str(found["data"]["telemetron.yaml"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_configurations_are_valid_and_open_only_where_they_say(
    built: Callable[..., list[Object]], overlay: str, tmp_path: Path
) -> None:
    for components, is_open in [((), False), (COMPONENTS[:1], True)]:
        objects = built(overlay, *components)
        text = config_of(objects, "telemetron")
        for name in ("read", "write", "metrics"):
            (tmp_path / name).write_text(name * 5)
        file = tmp_path / "telemetron.yaml"
        file.write_text(text.replace("/etc/telemetron/tokens", str(tmp_path)))
        settings = load(str(file), {"OBSERVED_NAMESPACE": "agents"})
        assert (settings.server.auth == "none") is is_open
        assert settings.sources["kubernetes"].options["namespaces"] == ["agents"]
        mounts = {mount["name"] for mount in container(objects)["volumeMounts"]}
        assert ("tokens" in mounts) is not is_open


def test_a_change_of_the_configuration_rolls_out(
    built: Callable[..., list[Object]], tmp_path: Path
) -> None:
    before = built("overlays/namespaced")
    (tmp_path / "telemetron.yaml").write_text("id: mine\n")
    generator = {"name": "telemetron", "behavior": "merge", "files": ["telemetron.yaml"]}
    kustomization(tmp_path, "overlays/namespaced", configMapGenerator=[generator])
    after = render(tmp_path)
    assert config_of(after, "telemetron") == "id: mine\n"
    assert template(after)["spec"]["volumes"] != template(before)["spec"]["volumes"]


def test_only_labelled_pods_may_connect(built: Callable[..., list[Object]]) -> None:
    objects = built("overlays/cluster", "components/monitoring")
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    labels = template(objects)["metadata"]["labels"]
    peers = []
    for policy in policies:
        spec = policy["spec"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
        assert spec["policyTypes"] == ["Ingress"]
        ((rule,),) = (spec["ingress"],)
        assert rule["ports"] == [{"port": "http"}]
        peers += [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    assert peers == [
        {"telemetron/agent": "true"},
        {"app.kubernetes.io/name": "prometheus"},
        {"telemetron/reader": "true"},
    ]
    assert one(objects, "Service")["spec"]["selector"].items() <= labels.items()


def test_the_tools_for_agents_are_a_second_container(built: Callable[..., list[Object]]) -> None:
    objects = built("overlays/cluster", "components/mcp")
    pod, mcp = template(objects)["spec"], container(objects, "mcp")
    assert [each["name"] for each in pod["containers"]] == ["telemetron", "mcp"]
    assert restrictions(pod, mcp) == RESTRICTED
    assert mcp["image"] == f"telemetron:{telemetron.__version__}"
    assert mcp.get("volumeMounts", []) == []  # it has no token: each caller sends its own
    ports = {port["name"]: port for port in one(objects, "Service")["spec"]["ports"]}
    assert set(ports) == {"http", "mcp"}
    (port,) = mcp["ports"]
    assert port == {"name": "mcp", "containerPort": ports["mcp"]["port"]}
    assert f"--http=0.0.0.0:{port['containerPort']}" in mcp["args"]
    (server,) = container(objects)["ports"]
    assert f"--url=http://127.0.0.1:{server['containerPort']}" in mcp["args"]
    (rule,) = one(objects, "NetworkPolicy", "telemetron-mcp")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"telemetron/reader": "true"}
    assert rule["ports"] == [{"port": "mcp"}]


def test_the_monitor_finds_the_service(built: Callable[..., list[Object]]) -> None:
    objects = built("overlays/cluster", "components/monitoring")
    monitor, service = one(objects, "ServiceMonitor")["spec"], one(objects, "Service")
    labels = service["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    own, state = monitor["endpoints"]
    assert (own["path"], state["path"]) == ("/metrics", "/metrics/state")
    assert state["honorLabels"]  # `namespace` is that of an agent
    (relabeling,) = own["relabelings"]  # `up` of the two scrapes must differ
    assert relabeling == state["relabelings"][0]
    assert relabeling["targetLabel"] == "metrics_path"
    assert {own["port"], state["port"]} <= {port["name"] for port in service["spec"]["ports"]}
    secrets = {
        v["secret"]["secretName"] for v in template(objects)["spec"]["volumes"] if "secret" in v
    }
    assert own["authorization"] == state["authorization"]
    credentials = own["authorization"]["credentials"]
    assert credentials["name"] in secrets
    auth = yaml.safe_load(config_of(objects, "telemetron"))["server"]["auth"]
    assert auth["metrics_file"].rpartition("/")[2] == credentials["key"] == "metrics"


def test_the_dashboard_is_found_by_grafanas_sidecar(built: Callable[..., list[Object]]) -> None:
    made = one(
        built("overlays/cluster", "components/monitoring"), "ConfigMap", "telemetron-dashboard"
    )
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    file = DEPLOY / "components/monitoring/dashboard.json"
    assert made["data"] == {"telemetron.json": file.read_text("utf-8")}


def test_the_label_that_prometheus_selects_by_can_be_added(tmp_path: Path) -> None:
    example = example_of("release")
    components = below_deploy(example.pop("components"))
    kustomization(
        tmp_path, *below_deploy(example.pop("resources")), components=components, **example
    )
    objects = render(tmp_path)
    found = [each for each in objects if each["kind"] in ("ServiceMonitor", "PrometheusRule")]
    assert len(found) == 4
    for each in found:
        assert each["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    # Selectors and pods stay as they are: a Deployment's selector cannot change.
    assert "release" not in template(objects)["metadata"]["labels"]
    assert "release" not in one(objects, "Deployment")["spec"]["selector"]["matchLabels"]


def test_the_alerts_beside_the_findings_can_be_removed(tmp_path: Path) -> None:
    patches = example_of("name: telemetron-state")["patches"]
    components = ["components/monitoring"]
    kustomization(tmp_path, "overlays/cluster", components=components, patches=patches)
    rules = one(render(tmp_path), "PrometheusRule", "telemetron-state")
    assert [group["name"] for group in rules["spec"]["groups"]] == ["telemetron-findings"]


# the sidecar


def test_a_sidecar_keeps_the_fields_of_the_agent(sidecar: list[Object]) -> None:
    pod = template(sidecar)["spec"]
    assert pod["automountServiceAccountToken"] is False
    (agent,) = pod["containers"]
    assert agent["image"] == "example.invalid/planner:1"
    assert {"name": "MODE", "value": "fast"} in agent["env"]
    (telemetron_,) = pod["initContainers"]
    assert telemetron_["restartPolicy"] == "Always"
    assert restrictions({}, telemetron_) == RESTRICTED
    assert telemetron_["image"] == f"telemetron:{telemetron.__version__}"
    assert "kubernetes" not in yaml.safe_load(config_of(sidecar, "telemetron-sidecar"))["sources"]


def test_a_sidecar_knows_the_agent_by_its_deployment(sidecar: list[Object]) -> None:
    (agent,) = template(sidecar)["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        path = agent[probe]["httpGet"]["path"]
        assert path == "/agents/planner/livez?max_silence=60s"
    # A silent life before must not end the one that starts: liveness begins after it has beaten.
    startup = agent["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    assert agent["livenessProbe"]["failureThreshold"] > 1


def test_two_agents_in_one_kustomization_are_refused(tmp_path: Path) -> None:
    """Rather than that one is probed under the other's name."""
    for name in ("planner", "writer"):
        agent = {**AGENT, "metadata": {"name": name}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(agent))
    agents = [tmp_path / "planner.yaml", tmp_path / "writer.yaml"]
    kustomization(tmp_path, *agents, components=["sidecar"])
    with pytest.raises(AssertionError, match="multiple matches"):
        render(tmp_path)


def test_an_agent_whose_container_has_another_name_is_refused(
    cluster: Cluster, tmp_path: Path
) -> None:
    text = yaml.safe_dump(AGENT).replace("name: agent", "name: main")
    (tmp_path / "agent.yaml").write_text(text)
    kustomization(tmp_path, tmp_path / "agent.yaml", components=["sidecar"])
    with pytest.raises(AssertionError, match="image: Required value"):
        cluster.apply(render(tmp_path))


# the page


def example_of(word: str) -> Any:
    """Return the YAML example of docs/deployment.md that contains the word."""
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return yaml.safe_load(block)


def below_deploy(paths: list[str]) -> list[str]:
    return [path.removeprefix("../telemetron/deploy/kubernetes/") for path in paths]


def test_the_kustomization_of_the_page_builds(tmp_path: Path) -> None:
    example = example_of("behavior: merge")
    (tmp_path / "telemetron.yaml").write_text("id: mine\n")
    resources, components = (below_deploy(example.pop(key)) for key in ("resources", "components"))
    kustomization(tmp_path, *resources, components=components, **example)
    objects = render(tmp_path)
    assert container(objects)["image"].startswith("registry.example.org/telemetron:")
    assert config_of(objects, "telemetron") == "id: mine\n"
    assert one(objects, "ServiceMonitor")["metadata"]["namespace"] == "telemetron"


async def test_the_sidecar_of_the_page_builds(tmp_path: Path, live: Any) -> None:
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(AGENT))
    example, patches = example_of("deployment.yaml"), example_of("max_stall")["patches"]
    resources = [tmp_path / name for name in example["resources"]]
    components = below_deploy(example["components"])
    kustomization(tmp_path, *resources, components=components, patches=patches)
    (agent,) = template(render(tmp_path))["spec"]["containers"]
    path = agent["livenessProbe"]["httpGet"]["path"]
    assert path == "/agents/planner/livez?max_silence=60s&max_stall=120m"
    assert (await live.client.get(path)).text == "ok\n"


def test_the_page_names_existing_files() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    named = set(re.findall(r"deploy/kubernetes/[a-z/.]+", page))
    assert "deploy/kubernetes/overlays/cluster" in named
    for name in named:
        assert (ROOT / name).exists(), name
    for overlay in OVERLAYS:
        assert f"`{overlay}`" in page
