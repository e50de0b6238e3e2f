"""Configuration of a source `kubernetes`."""

from typing import Annotated, Literal

from msgspec import Meta, field

from telemetron.collector import Config

Namespace = Annotated[str, Meta(pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")]


class KubernetesConfig(Config, frozen=True):
    """The namespaces and objects to observe, and the credentials to use."""

    config: Annotated[
        Literal["in-cluster", "kubeconfig"],
        Meta(description="Credentials: the pod's service account, or a kubeconfig file."),
    ] = "in-cluster"
    kubeconfig: Annotated[
        str | None,
        Meta(description="The kubeconfig file; null: $KUBECONFIG, else ~/.kube/config."),
    ] = None
    context: Annotated[
        str | None, Meta(description="The kubeconfig's context; null: its current one.")
    ] = None
    namespaces: Annotated[
        list[Namespace],
        Meta(
            description='Namespaces to watch; ["*"]: all. Empty: that of the service account or of'
            " the context.",
            max_length=64,
        ),
    ] = field(default_factory=list)
    label_selector: Annotated[
        str | None,
        Meta(description="Watch only pods and workloads with these labels, as kubectl's `-l`."),
    ] = None
    metrics_interval_seconds: Annotated[
        float,
        Meta(description="Time between two polls of usage figures.", ge=5, le=60),
    ] = 30.0
    network: Annotated[
        bool,
        Meta(description="Poll the kubelets for network counters; needs `get` on nodes/proxy."),
    ] = False
    nodes: Annotated[
        bool,
        Meta(description="Watch whether nodes are ready; needs get, list and watch on nodes."),
    ] = False
    termination_messages: Annotated[
        bool,
        Meta(description="Show containers' termination messages, which may hold secrets."),
    ] = False
