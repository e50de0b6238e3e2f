"""The keys of a kubernetes source."""

from typing import Annotated, Literal

from msgspec import Meta, field

from telemetron.collector import Config

Namespace = Annotated[str, Meta(pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")]


class KubernetesConfig(Config, frozen=True):
    """What is watched, and as whom."""

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
            description='What is watched; ["*"]: all. Empty: the namespace of the service account'
            " or of the context.",
            max_length=64,
        ),
    ] = field(default_factory=list)
    label_selector: Annotated[
        str | None,
        Meta(description="Only pods and workloads whose labels match, as kubectl's `-l`."),
    ] = None
    metrics_interval_seconds: Annotated[
        float,
        Meta(description="Time between two polls of usage figures.", ge=5, le=60),
    ] = 30.0
    network: Annotated[
        bool,
        Meta(description="Ask the kubelets for network counters; needs `get` on nodes/proxy."),
    ] = False
    nodes: Annotated[
        bool,
        Meta(description="Watch whether nodes are ready; needs get, list and watch on nodes."),
    ] = False
    termination_messages: Annotated[
        bool,
        Meta(description="Show what containers write when they end; it may hold secrets."),
    ] = False
