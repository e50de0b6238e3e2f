"""Pods, as a kubelet and the node controller show them."""

import time
from typing import TYPE_CHECKING, Any

from tests.real.incidents.times import second_ago, second_of

if TYPE_CHECKING:
    from tests.real.incidents.workload import Workload

HOUR = 3600.0
OWNERS = {"Deployment": "ReplicaSet"}
"""The kind of the object that owns the pods, if it is not the workload."""


class Pod:
    """One pod; its methods change it, and `workload.sync()` shows the change to the cluster."""

    def __init__(self, workload: "Workload", name: str, node: str, address: str) -> None:
        self.workload, self.name, self.node, self.address = workload, name, node, address
        self.hash, self.image = workload.hash, workload.image
        self.created = time.time() - 2 * HOUR
        self.restarts = 0
        self.last: dict[str, Any] | None = None
        """The last state of its container."""
        self.cpu, self.memory, self.has_metrics = 0.12, 310, True
        self.is_deleting, self.has_sidecar = False, False
        self.reason: str | None = None
        self.message: str | None = None
        self.run()

    @property
    def is_measured(self) -> bool:
        """Whether the metrics server has samples of it."""
        return self.phase == "Running" and self.has_metrics

    @property
    def is_alive(self) -> bool:
        """Whether its controller counts it."""
        return self.phase not in ("Succeeded", "Failed") and not self.is_deleting

    def run(self) -> None:
        """Its container runs and is ready."""
        self.phase, self.ready, self.unscheduled = "Running", True, ""
        self.state: dict[str, Any] | None = {"running": {"startedAt": second_ago(600)}}

    def wait(self, reason: str, message: str, phase: str = "Pending") -> None:
        """Its container waits: ImagePullBackOff, CreateContainerConfigError, ContainerCreating."""
        self.phase, self.ready, self.has_metrics = phase, False, False
        self.state = {"waiting": {"reason": reason, "message": message}}

    def exit(self, reason: str, code: int) -> None:
        """Its container has ended, and the kubelet starts it again."""
        self.restarts += 1
        times = {"startedAt": second_ago(20), "finishedAt": second_ago()}
        self.last = {"terminated": {"reason": reason, "exitCode": code, **times}}

    def crash(self, reason: str, code: int, restarts: int = 1) -> None:
        """Its container has ended so often, and the kubelet waits before the next start."""
        self.restarts += restarts - 1
        self.exit(reason, code)
        container = f"container={self.workload.name} pod={self.name}"
        self.wait("CrashLoopBackOff", f"back-off 5m0s restarting failed {container}", "Running")

    def find_no_node(self, message: str) -> None:
        """The scheduler finds no node for it."""
        self.phase, self.ready, self.has_metrics, self.state = "Pending", False, False, None
        self.unscheduled, self.node = message, ""

    def evict(self, message: str) -> None:
        """The kubelet evicts it."""
        self.phase, self.ready, self.has_metrics = "Failed", False, False
        self.reason, self.message = "Evicted", message
        ended = {"reason": "Error", "exitCode": 137, "finishedAt": second_ago(30)}
        self.state = {"terminated": ended}

    def delete(self) -> None:
        """It is gone from the cluster."""
        self.workload.pods.remove(self)
        self.workload.cluster.delete("pods", self.name)

    def put(self) -> None:
        """Show it."""
        container = self.workload.container(self.image)
        spec = {"containers": [container], **({"nodeName": self.node} if self.node else {})}
        status = self._status()
        self.workload.cluster.put("pods", self.name, self._metadata(), spec=spec, status=status)

    def _metadata(self) -> dict[str, Any]:
        own = self.workload
        name = f"{own.name}-{self.hash}" if own.kind in OWNERS else own.name
        owner = {"kind": OWNERS.get(own.kind, own.kind), "name": name, "uid": name}
        ending = {"deletionTimestamp": second_ago(), "deletionGracePeriodSeconds": 30}
        return {
            "creationTimestamp": second_of(self.created),
            "labels": {"app": own.name},
            "annotations": own.annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "controller": True, **owner}],
            **(ending if self.is_deleting else {}),
        }

    def _status(self) -> dict[str, Any]:
        texts = {"reason": self.reason, "message": self.message}
        address = self.address if self.phase == "Running" else None
        optional = {**texts, "podIP": address, "containerStatuses": self._containers()}
        return {
            "phase": self.phase,
            "conditions": self._conditions(),
            "startTime": second_of(self.created),
            **{name: value for name, value in optional.items() if value},
        }

    def _conditions(self) -> list[dict[str, Any]]:
        if self.unscheduled:
            why = {"reason": "Unschedulable", "message": self.unscheduled}
            return [{"type": "PodScheduled", "status": "False", **why}]
        ready = {"type": "Ready", "status": str(self.ready)}
        return [{"type": "PodScheduled", "status": "True"}, ready]

    def _containers(self) -> list[dict[str, Any]]:
        if not self.state:
            return []
        last = {"lastState": self.last} if self.last else {}
        seen = {"ready": self.ready, "restartCount": self.restarts, "state": self.state, **last}
        running = {"running": {"startedAt": second_ago(2 * HOUR)}}
        sidecar = {"name": "log-shipper", "ready": True, "restartCount": 0, "state": running}
        main = {"name": self.workload.name, "image": self.image, **seen}
        return [main, sidecar] if self.has_sidecar else [main]
