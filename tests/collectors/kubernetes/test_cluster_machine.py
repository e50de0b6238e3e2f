"""A state machine: `max_pods` follows from the current autoscalers after any changes."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from telemetron_collectors.kubernetes.cluster import Cluster, WorkloadId
from tests.collectors.kubernetes.test_cluster import put
from tests.collectors.kubernetes.things import autoscaler, deployment

HPA = "HorizontalPodAutoscaler"
names = st.sampled_from(["a", "b", "c", "d"])
groups = {
    "Deployment": ["apps/v1", "", "other.example/v1", "v1"],
    "StatefulSet": ["apps/v1", "apps/v1beta2", "other.example/v1"],
    "Rollout": ["argoproj.io/v1alpha1"],
}
targets = st.sampled_from(list(groups)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from(groups[kind]), st.just(kind), st.sampled_from(["web", "db"])
    )
)
WORKLOADS = [WorkloadId("default", kind, name) for kind in groups for name in ("web", "db")]


class Autoscaling(RuleBasedStateMachine):
    """The model keeps the objects and looks through all of them."""

    autoscalers: Bundle[str] = Bundle("autoscalers")
    workloads: Bundle[WorkloadId] = Bundle("workloads")

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.scaled: dict[str, tuple[tuple[str, str, str], int]] = {}
        self.replicas: dict[WorkloadId, int] = {}
        self.is_synced = False
        self.shown: dict[WorkloadId, int | None] = {}

    @rule(target=autoscalers, name=names, scales=targets, most=st.integers(1, 9))
    def add_or_retarget(self, name: str, scales: Any, most: int) -> str:
        version, kind, of = scales
        put(self.cluster, HPA, autoscaler(name, kind, of, most, version))
        self.scaled[name] = scales, most
        return name

    @rule(name=consumes(autoscalers))
    def remove(self, name: str) -> None:
        self.cluster.remove(HPA, "default", name)
        self.scaled.pop(name, None)

    @rule(
        target=workloads,
        kind=st.sampled_from(["Deployment", "StatefulSet"]),
        name=st.sampled_from(["web", "db"]),
        replicas=st.integers(0, 9),
    )
    def deploy(self, kind: str, name: str, replicas: int) -> WorkloadId:
        put(self.cluster, kind, deployment(name, replicas))
        self.replicas["default", kind, name] = replicas
        return WorkloadId("default", kind, name)

    @rule(id=consumes(workloads))
    def undeploy(self, id: WorkloadId) -> None:
        self.cluster.remove(id.kind, id.namespace, id.name)
        self.replicas.pop(id, None)

    @rule()
    def sync(self) -> None:
        self.cluster.set_synced(HPA, None)
        self.is_synced = True

    @invariant()
    def the_largest_maximum_counts(self) -> None:
        for id in WORKLOADS:
            assert self.cluster.max_pods(id) == self.expected(id)

    @invariant()
    def changed_workloads_are_dirty(self) -> None:
        for id in WORKLOADS:
            if self.shown.get(id) != self.expected(id):
                assert id in self.cluster.dirty
        self.shown = {id: self.expected(id) for id in WORKLOADS}
        self.cluster.dirty.clear()

    @invariant()
    def all_are_known(self) -> None:
        assert sorted(self.cluster.keys(HPA, "default")) == [
            ("default", name) for name in sorted(self.scaled)
        ]

    def expected(self, id: WorkloadId) -> int | None:
        maxima = [
            most
            for (version, kind, name), most in self.scaled.values()
            if (kind, name) == id[1:]
            and (kind == "Rollout" or version in ("", "apps/v1", "apps/v1beta2"))
        ]
        replicas = self.replicas.get(id) if self.is_synced else None
        return max(maxima, default=replicas)


TestAutoscaling = Autoscaling.TestCase
TestAutoscaling.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, derandomize=True
)
