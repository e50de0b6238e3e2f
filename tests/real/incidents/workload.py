"""Workloads, with the arithmetic of their controllers."""

from typing import Any

from tests.real.incidents.cluster import NAMESPACE, NODES, Cluster
from tests.real.incidents.pod import Pod
from tests.real.incidents.times import second_ago

RESOURCES = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
GENERATION = 7
"""Of a workload that has not been changed since the world began."""


class Workload:
    """A Deployment or StatefulSet, and its pods; `sync` shows it to the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        replicas: int,
        *,
        kind: str = "Deployment",
        image: str = "",
        memory: str = "1Gi",
        annotations: dict[str, str] | None = None,
    ) -> None:
        self.cluster, self.name, self.replicas, self.kind = cluster, name, replicas, kind
        self.image = image or f"registry.example/atlas/{name}:4.17.2"
        self.limits, self.annotations = {"cpu": "1", "memory": memory}, annotations or {}
        self.generation, self.hash = GENERATION, cluster.token(9)
        self.progressing: tuple[str, str] | None = None
        """Reason and message of its condition Progressing, if it does not follow from its pods."""
        self.pods: list[Pod] = []
        cluster.workloads[name] = self
        self._put_replica_set()
        for number in range(replicas):
            self.add_pod(number)

    @property
    def key(self) -> str:
        """Its key in the document."""
        return f"kubernetes/{NAMESPACE}/{self.kind}/{self.name}"

    def roll(self, image: str) -> None:
        """Begin a new revision; its pods are up to the scenario."""
        self.image, self.hash = image, self.cluster.token(9)
        self.generation += 1
        self._put_replica_set()

    def add_pod(self, number: int = 0) -> Pod:
        """Add a pod of the present revision that is ready."""
        suffix = f"{self.hash}-{self.cluster.token(5)}"
        name = f"{self.name}-{number if self.kind == 'StatefulSet' else suffix}"
        node = NODES[(len(self.pods) + sum(map(ord, self.name))) % len(NODES)]
        self.pods.append(Pod(self, name, node, self.cluster.address()))
        return self.pods[-1]

    def container(self, image: str | None = None) -> dict[str, Any]:
        """Return its container as a template has it."""
        resources = {"limits": self.limits, "requests": self.limits}
        return {"name": self.name, "image": image or self.image, "resources": resources}

    def sync(self) -> None:
        """Show it and its pods as they are now."""
        for pod in self.pods:
            pod.put()
        labels = {"app": self.name}
        about = {"labels": labels, "annotations": self.annotations}
        template = {"metadata": about, "spec": {"containers": [self.container()]}}
        spec = {"replicas": self.replicas, "selector": {"matchLabels": labels}}
        metadata = {"generation": self.generation, "uid": self.name}
        whole = {"spec": {**spec, "template": template}, "status": self._status()}
        self.cluster.put(RESOURCES[self.kind], self.name, metadata, **whole)

    def _put_replica_set(self) -> None:
        if self.kind == "Deployment":
            name = f"{self.name}-{self.hash}"
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True}
            references = [{**owner, "name": self.name, "uid": self.name}]
            self.cluster.put("replicasets", name, {"ownerReferences": references, "uid": name})

    def _status(self) -> dict[str, Any]:
        alive = [pod for pod in self.pods if pod.is_alive]
        ready = sum(pod.ready for pod in alive)
        updated = sum(pod.hash == self.hash for pod in alive)
        counts = {"replicas": len(alive), "readyReplicas": ready, "availableReplicas": ready}
        status = {"observedGeneration": self.generation, **counts, "updatedReplicas": updated}
        if self.kind == "StatefulSet":
            return {**status, "currentRevision": self.hash, "updateRevision": self.hash}
        is_whole = updated == self.replicas == ready == len(alive)
        conditions = [self._available(ready), self._progressing(is_whole)]
        missing = max(0, self.replicas - ready)
        return {**status, "unavailableReplicas": missing, "conditions": conditions}

    def _available(self, ready: int) -> dict[str, str]:
        is_enough = (
            ready >= self.replicas - self.replicas // 4
        )  # maxUnavailable: 25 %, rounded down
        said = "has" if is_enough else "does not have"
        return {
            "type": "Available",
            "status": str(is_enough),
            "reason": f"MinimumReplicas{'Available' if is_enough else 'Unavailable'}",
            "message": f"Deployment {said} minimum availability.",
            "lastTransitionTime": second_ago(90),
        }

    def _progressing(self, is_whole: bool) -> dict[str, str]:
        set = f'ReplicaSet "{self.name}-{self.hash}"'
        over = "NewReplicaSetAvailable", f"{set} has successfully progressed."
        under_way = "ReplicaSetUpdated", f"{set} is progressing."
        is_over = is_whole or self.generation == GENERATION
        reason, message = self.progressing or (over if is_over else under_way)
        return {
            "type": "Progressing",
            "status": str(reason != "ProgressDeadlineExceeded"),
            "reason": reason,
            "message": message,
            "lastUpdateTime": second_ago(90),
        }
