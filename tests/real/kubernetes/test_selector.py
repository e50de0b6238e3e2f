"""Label selectors fit what the API server says that they fit."""

from urllib.parse import quote

from tests.collectors.kubernetes.selectors import LABELS, SELECTORS
from tests.real.kubernetes.cluster import Cluster, pod, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import workload as shown


async def test_selectors_fit_as_on_the_server(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps"
    for name, labels in LABELS.items():
        await cluster.call("POST", path, {"metadata": {"name": name, "labels": labels}})
    for written, fitting in SELECTORS.items():
        found = await cluster.call("GET", f"{path}?labelSelector={quote(written)}")
        names = {one["metadata"]["name"] for one in found["items"]} - {"kube-root-ca.crt"}
        assert names == fitting, written


async def test_pods_outside_the_selector_are_not_counted(
    cluster: Cluster, watching: Watching
) -> None:
    for name, labels in (("web", {}), ("all", {"team": "ml"})):
        one = workload(name, replicas=2)
        one["metadata"]["labels"] = {"team": "ml"}
        one["spec"]["template"]["metadata"]["labels"].update(labels)
        await cluster.make("Deployment", one)
    await cluster.make("Pod", pod("other"))
    async with watching(label_selector="team=ml") as view:
        await view.until(lambda state: shown(state, "all")["live"]["active_pods"] == 2)
        await view.until(lambda state: shown(state, "web")["live"]["ready"] == 2)
        web = shown(await view.state(), "web")
        assert (web["live"]["active_pods"], web["pods"]) == (None, [])
        assert [one["reason"] for one in web["problems"]] == ["NotSelected"]
        assert len((await view.state())["workload"]) == 2
