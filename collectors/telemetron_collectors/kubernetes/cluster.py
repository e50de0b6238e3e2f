"""The state of the cluster: pods, the workloads that they belong to, and what changed.

A pod belongs to the workload of its controller. If the controller is a ReplicaSet, the pod belongs
to the controller of the ReplicaSet. A pod without a controller is a workload of its own.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from telemetron.document import Problem
from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.api.objects import ObjectKey, kind_of
from telemetron_collectors.kubernetes.bounds import DEFAULTS
from telemetron_collectors.kubernetes.pods import PodTraffic, PodUsage, SeenPod, seen_pod
from telemetron_collectors.kubernetes.selector import selector
from telemetron_collectors.kubernetes.workloads import (
    CONTROLLERS,
    SeenWorkload,
    seen_workload,
    with_last_rollout,
)

UNSCALED = ("DaemonSet", "Job", "Node", "Pod")
"""Kinds that no autoscaler scales."""


class WorkloadId(NamedTuple):
    """The identity of a workload."""

    namespace: str
    kind: str
    name: str


class NodeReadiness(NamedTuple):
    """Whether a node is ready, and its reason."""

    ready: bool
    reason: str | None


class Cluster:
    """All known objects. `dirty` has the workloads to publish again, and `changed` says so."""

    def __init__(
        self,
        *,
        termination_messages: bool = False,
        label_selector: str | None = None,
        max_objects: int = DEFAULTS.objects,
    ) -> None:
        self.pods: dict[ObjectKey, SeenPod] = {}
        self.usage: dict[ObjectKey, PodUsage] = {}
        self.traffic: dict[ObjectKey, PodTraffic] = {}
        self.workloads: dict[WorkloadId, SeenWorkload] = {}
        self.members: dict[WorkloadId, list[str]] = {}
        """The sorted names of each workload's pods."""
        self.autoscaled: dict[WorkloadId, dict[str, int]] = {}
        """The maxima of the autoscalers of each target, by the autoscaler's name."""
        self.nodes: dict[ObjectKey, NodeReadiness] = {}
        self.dirty: dict[WorkloadId, None] = {}
        self.changed = asyncio.Event()
        self.waiting: dict[ObjectKey, WorkloadId] = {}
        """Pods that arrived before their owner, and that owner."""
        self.left_out: dict[str, set[ObjectKey]] = {}
        """By kind, the objects beyond `max_objects`."""
        self._termination_messages = termination_messages
        self._fits = selector(label_selector) if label_selector else None
        self._max_objects = max_objects
        self._workload_of: dict[ObjectKey, WorkloadId] = {}
        self._replicasets: dict[ObjectKey, ObjectKey | None] = {}
        """The kind and name of each ReplicaSet's controller."""
        self._autoscalers: dict[ObjectKey, tuple[WorkloadId, int | None]] = {}
        self._objects: dict[str, dict[ObjectKey, Any]] = {
            "Pod": self.pods,
            "ReplicaSet": self._replicasets,
            "HorizontalPodAutoscaler": self._autoscalers,
            "Node": self.nodes,
        }
        """By kind, all objects but workloads."""
        self._awaited: dict[WorkloadId, dict[ObjectKey, None]] = {}
        self._synced: set[tuple[str, str | None]] = set()
        self._problems: dict[tuple[str, str | None], Problem] = {}
        """Why not all objects of a kind are known in a namespace."""

    def apply(self, kind: str, object: Any) -> None:
        """Add an object, or replace its last version."""
        key = object.metadata.namespace, object.metadata.name
        if not self._has_room(kind, key):
            self.left_out.setdefault(kind, set()).add(key)
            return
        self._readmit(kind, key)
        if kind == "Pod":
            self._apply_pod(key, seen_pod(object, termination_messages=self._termination_messages))
        elif kind == "ReplicaSet":
            owner = object.metadata.owner
            self._apply_replicaset(key, (kind_of(owner), owner.name) if owner else None)
        elif kind == "HorizontalPodAutoscaler":
            self._apply_autoscaler(key, object)
        elif kind == "Node":
            self._apply_node(key[1], object)
        else:
            self._apply_workload(
                WorkloadId(key[0], kind, key[1]),
                self._selected(seen_workload(kind, object), object),
            )

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Remove a deleted object; an unknown one changes nothing."""
        key = namespace, name
        self._readmit(kind, key)
        if kind == "Pod":
            self._remove_pod(key)
        elif kind == "ReplicaSet":
            self._replicasets.pop(key, None)
        elif kind == "HorizontalPodAutoscaler":
            self._scale(key, None)
        elif kind == "Node":
            self._set_node(name, None)
        elif self.workloads.pop(id := WorkloadId(namespace, kind, name), None):
            self._mark(id)

    def keys(self, kind: str, namespace: str | None) -> list[ObjectKey]:
        """Return the keys of all objects of a kind, in a namespace or in all."""
        known: Iterable[ObjectKey] | None = self._objects.get(kind)
        if known is None:
            known = [(id.namespace, id.name) for id in self.workloads if id.kind == kind]
        everything = (*known, *self.left_out.get(kind, ()))
        return [key for key in everything if namespace in (None, key[0])]

    def _readmit(self, kind: str, key: ObjectKey) -> None:
        """Note that an object is no longer left out."""
        left = self.left_out.get(kind)
        if left and key in left:
            left.remove(key)
            if not left:
                del self.left_out[kind]
                self._mark_all(None)  # the kind is complete, so null fields get a value

    def _has_room(self, kind: str, key: ObjectKey) -> bool:
        known = self._objects.get(kind)
        if known is None:
            id = WorkloadId(key[0], kind, key[1])
            return len(self.workloads) < self._max_objects or id in self.workloads
        return len(known) < self._max_objects or key in known

    # changes

    def pop_dirty(self) -> dict[WorkloadId, None]:
        """Return the workloads that may look different since the last call."""
        dirty, self.dirty = self.dirty, {}
        return dirty

    def _mark(self, id: WorkloadId) -> None:
        self.dirty[id] = None
        self.changed.set()

    def _mark_all(self, namespace: str | None) -> None:
        for id in self.workloads | self.members:
            if namespace in (None, id.namespace):
                self._mark(id)

    def _mark_pods(self, pods: Iterable[ObjectKey]) -> None:
        for key in pods:
            if id := self._workload_of.get(key):
                self._mark(id)

    # completeness

    def set_synced(self, kind: str, namespace: str | None) -> None:
        """Note that all objects of a kind are known from now on."""
        if (kind, namespace) in self._synced:
            return
        self._synced.add((kind, namespace))
        self._problems.pop((kind, namespace), None)
        self._mark_all(namespace)  # null fields get a value

    def set_problem(self, kind: str, namespace: str | None, problem: Problem) -> None:
        """Note why not all objects of a kind are known; the same problem again changes nothing."""
        key = kind, namespace
        if key in self._synced and kind not in self.left_out:
            return  # the objects that were listed stay
        old = self._problems.get(key)
        if old is None or (old.reason, old.message) != (problem.reason, problem.message):
            self._problems[key] = problem
            self._mark_all(namespace)

    def is_synced(self, kind: str, namespace: str) -> bool:
        """Return whether all objects of a kind were listed."""
        return (kind, None) in self._synced or (kind, namespace) in self._synced

    def is_complete(self, kind: str, namespace: str) -> bool:
        """Return whether every object of a kind is known."""
        return kind not in self.left_out and self.is_synced(kind, namespace)

    def has_all_pods(self, id: WorkloadId) -> bool:
        """Return whether every pod of a workload is known, so that they can be counted."""
        seen = self.workloads.get(id)
        is_selected = seen is None or seen.is_selected
        return is_selected and all(
            self.is_complete(kind, id.namespace) for kind in needed_for_pods(id.kind)
        )

    def is_left_out(self, id: WorkloadId) -> bool:
        """Return whether the label selector excludes the workload itself, or it was deleted."""
        is_missing = id.kind in CONTROLLERS and id not in self.workloads
        return self._fits is not None and is_missing and self.is_complete(id.kind, id.namespace)

    def problems(self, id: WorkloadId) -> Iterator[Problem]:
        """Yield why something of a workload is unknown: its pods, itself, its autoscalers."""
        yield from self.pod_problems(id)
        if id.kind in CONTROLLERS:
            yield from self._problems_of(id, (id.kind,))
        if id.kind not in UNSCALED:
            yield from self._problems_of(id, ("HorizontalPodAutoscaler",))

    def pod_problems(self, id: WorkloadId) -> Iterator[Problem]:
        """Yield why not all pods of a workload are known."""
        return self._problems_of(id, needed_for_pods(id.kind))

    def _problems_of(self, id: WorkloadId, kinds: Iterable[str]) -> Iterator[Problem]:
        for kind in kinds:
            problem = self._problems.get((kind, None)) or self._problems.get((kind, id.namespace))
            if problem and not self.is_complete(kind, id.namespace):
                yield problem

    # pods

    def pods_of(self, id: WorkloadId) -> list[SeenPod]:
        """Return the pods of a workload, by name."""
        return [self.pods[id.namespace, name] for name in self.members.get(id, ())]

    def stop_waiting(self, key: ObjectKey) -> None:
        """Publish a pod without its owner, which did not arrive."""
        if key in self.waiting:
            self._settle(key, wait=False)

    def set_usage(self, figures: Mapping[ObjectKey, PodUsage | None]) -> None:
        """Set the usage of these pods; None removes it."""
        for key, usage in figures.items():
            if usage:
                self.usage[key] = usage
            else:
                self.usage.pop(key, None)
        self._mark_pods(figures)

    def replace_traffic(self, traffic: dict[ObjectKey, PodTraffic]) -> None:
        """Replace the traffic of all pods."""
        old, self.traffic = self.traffic, traffic
        self._mark_pods([key for key in old | traffic if old.get(key) != traffic.get(key)])

    def _apply_pod(self, key: ObjectKey, pod: SeenPod) -> None:
        old = self.pods.get(key)
        if pod == old:
            return
        self.pods[key] = pod
        if old and old.owner != pod.owner:
            self._leave(key)
        id = self._workload_of.get(key)
        if id is None:
            self._settle(key)
        else:
            self._mark(id)

    def _remove_pod(self, key: ObjectKey) -> None:
        # A new pod of the same name must not inherit the figures.
        self.usage.pop(key, None)
        self.traffic.pop(key, None)
        if self.pods.pop(key, None) is not None:
            self._leave(key)
            self._end_wait(key)

    def _settle(self, key: ObjectKey, *, wait: bool = True) -> None:
        """Assign a pod to its workload, or let the pod wait until its owner arrives."""
        id, missing = self._find(key)
        self._end_wait(key)
        if missing and wait:
            self.waiting[key] = missing
            self._awaited.setdefault(missing, {})[key] = None
            self.changed.set()
            return
        if id != self._workload_of.get(key):
            self._leave(key)
            self._workload_of[key] = id
            insort(self.members.setdefault(id, []), key[1])
        self._mark(id)

    def _find(self, key: ObjectKey) -> tuple[WorkloadId, WorkloadId | None]:
        """Return a pod's workload, and the owner that must arrive before it is certain."""
        namespace, name = key
        owner = self.pods[key].owner
        known = self._workload_of.get(key)
        if owner is None:
            return WorkloadId(namespace, "Pod", name), None
        if owner[0] == "ReplicaSet":
            if (namespace, owner[1]) not in self._replicasets:
                # If the ReplicaSet is deleted already, its pods stay with their workload.
                id = known or WorkloadId(namespace, *owner)
                return id, None if known else self._missing(id)
            owner = self._replicasets[namespace, owner[1]] or owner
        id = WorkloadId(namespace, *owner)
        is_seen = known or id.kind not in CONTROLLERS or id in self.workloads
        return id, None if is_seen else self._missing(id)

    def _missing(self, id: WorkloadId) -> WorkloadId | None:
        """Return the owner if it is bound to arrive; a kind that is not synced may never come."""
        return id if self.is_synced(id.kind, id.namespace) else None

    def _end_wait(self, key: ObjectKey) -> None:
        missing = self.waiting.pop(key, None)
        if missing:
            del self._awaited[missing][key]
            if not self._awaited[missing]:
                del self._awaited[missing]

    def _leave(self, key: ObjectKey) -> None:
        """Remove a pod from its workload."""
        id = self._workload_of.pop(key, None)
        if id is None:
            return
        names = self.members[id]
        del names[bisect_left(names, key[1])]
        if not names:
            del self.members[id]
        self._mark(id)

    # nodes

    def readiness_of(self, pod: SeenPod) -> NodeReadiness | None:
        """Return the readiness of a pod's node, if nodes are watched."""
        return self.nodes.get(("", pod.pod.node or ""))

    def _apply_node(self, name: str, node: objects.Node) -> None:
        ready = next((one for one in node.status.conditions or () if one.type == "Ready"), None)
        self._set_node(name, NodeReadiness(ready.status == "True", ready.reason) if ready else None)

    def _set_node(self, name: str, node: NodeReadiness | None) -> None:
        old = self.nodes.pop(("", name), None)
        if node:
            self.nodes["", name] = node
        if node != old:
            self._mark_pods([key for key, pod in self.pods.items() if pod.pod.node == name])

    # owners

    def _selected(self, seen: SeenWorkload, object: Any) -> SeenWorkload:
        """Add whether the label selector fits the pods, which have the labels of the template."""
        if self._fits is None:
            return seen
        metadata = object.spec.template.metadata
        return replace(seen, is_selected=self._fits((metadata and metadata.labels) or {}))

    def _apply_workload(self, id: WorkloadId, seen: SeenWorkload) -> None:
        old = self.workloads.get(id)
        seen = with_last_rollout(old, seen)
        is_rolling = id.kind != "Job" and seen.live.rollout != "complete"
        if old and not old.is_selected and is_rolling:
            seen = replace(seen, is_selected=False)  # pods of its old template may remain
        if old != seen:
            self.workloads[id] = seen
            self._mark(id)
        self._settle_waiting(id)

    def _apply_replicaset(self, key: ObjectKey, owner: ObjectKey | None) -> None:
        if key in self._replicasets and self._replicasets[key] == owner:
            return
        namespace, name = key
        old = WorkloadId(namespace, *(self._replicasets.get(key) or ("ReplicaSet", name)))
        self._replicasets[key] = owner
        for pod in list(self.members.get(old, ())):
            if self.pods[namespace, pod].owner == ("ReplicaSet", name):
                self._settle((namespace, pod))
        self._settle_waiting(WorkloadId(namespace, "ReplicaSet", name))

    def _settle_waiting(self, owner: WorkloadId) -> None:
        """Settle the pods that waited for an owner."""
        for key in list(self._awaited.get(owner, ())):
            self._settle(key)

    # autoscalers

    def max_pods(self, id: WorkloadId) -> int | None:
        """Return the autoscalers' maximum, else the replicas; None if autoscalers are unknown."""
        one = self.workloads.get(id)
        if id.kind in UNSCALED:
            return one.replicas if one else None
        if id in self.autoscaled:
            return max(self.autoscaled[id].values())
        is_known = self.is_complete("HorizontalPodAutoscaler", id.namespace)
        return one.replicas if one and is_known else None

    def _apply_autoscaler(self, key: ObjectKey, one: objects.Autoscaler) -> None:
        target = one.spec.scale_target_ref
        id = WorkloadId(key[0], kind_of(target), target.name)
        self._scale(key, (id, one.spec.max_replicas))

    def _scale(self, key: ObjectKey, new: tuple[WorkloadId, int | None] | None) -> None:
        old = self._autoscalers.pop(key, None)
        if new:
            self._autoscalers[key] = new
        if new == old:
            return
        for id, _ in filter(None, (old, new)):
            self._set_maximum(id, key[1], new[1] if new and new[0] == id else None)

    def _set_maximum(self, id: WorkloadId, autoscaler: str, maximum: int | None) -> None:
        maxima = self.autoscaled.setdefault(id, {})
        maxima.pop(autoscaler, None)
        if maximum is not None:
            maxima[autoscaler] = maximum
        if not maxima:
            del self.autoscaled[id]
        self._mark(id)


def needed_for_pods(kind: str) -> tuple[str, ...]:
    """Return the kinds without which the pods of a workload are incomplete."""
    return ("Pod", "ReplicaSet") if kind in ("Deployment", "ReplicaSet") else ("Pod",)
