"""The control plane itself: what the other tests lean on."""

import pytest

from tests.real.controlplane import ApiError, ControlPlane
from tests.real.process import wait_until

NAMESPACE = "control-plane"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def test_controllers_the_scheduler_kubelets_and_permissions_are_real(
    control_plane: ControlPlane,
) -> None:
    call = control_plane.call
    call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    labels = {"app": "web"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/web:1"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    call("POST", path, {"metadata": {"name": "web"}, "spec": spec})
    wait_until(
        lambda: call("GET", f"{path}/web")["status"].get("availableReplicas") == 2,
        seconds=30,
        what="the Deployment",
    )
    token = control_plane.account(NAMESPACE, "nobody")
    with pytest.raises(ApiError) as refused:
        call("GET", PODS, token=token)
    assert refused.value.status == 403

    control_plane.stop("kube-apiserver", kill=True)
    with pytest.raises(ConnectionRefusedError):
        call("GET", PODS)
    control_plane.start("kube-apiserver")
    assert len(call("GET", PODS)["items"]) == 2
    call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
