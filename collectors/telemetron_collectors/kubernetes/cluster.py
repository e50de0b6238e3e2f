"""The cluster as the watches see it: pods, the workloads they belong to, and what changed.

A workload's `home` is (namespace, kind, name). A pod's is that of its controller, or, where that is
a ReplicaSet, of the ReplicaSet's; a pod without a controller is its own.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from telemetron.document import Problem
from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.api.objects import kind_of
from telemetron_collectors.kubernetes.pods import SeenPod, seen_pod
from telemetron_collectors.kubernetes.selector import selector
from telemetron_collectors.kubernetes.workloads import VIEWS, SeenWorkload, followed, seen_workload

# Five times what is measured; of each kind, the four of workloads together.
MAX_OBJECTS = 50_000
# What no autoscaler scales.
UNSCALED = ("DaemonSet", "Job", "Node", "Pod")

Home = tuple[str, str, str]
At = tuple[str, str]
"""Namespace and name."""


class Node(NamedTuple):
    """Whether a node is ready."""

    ready: bool
    reason: str | None


class Cluster:
    """All that is known; `dirty` are the homes whose workload may look different now."""

    def __init__(
        self, *, termination_messages: bool = False, label_selector: str | None = None
    ) -> None:
        self.pods: dict[At, SeenPod] = {}
        self.workloads: dict[Home, SeenWorkload] = {}
        self.members: dict[Home, list[str]] = {}
        """The names of its pods, sorted."""
        self.autoscaled: dict[Home, dict[str, int]] = {}
        """The maxima of the autoscalers of each target, by the autoscaler's name."""
        self.dirty: dict[Home, None] = {}
        self.waiting: dict[At, Home] = {}
        """Pods whose owner has not been seen yet, and that owner."""
        self.left_out: dict[str, set[At]] = {}
        """By kind, the objects for which there was no room."""
        self.nodes: dict[str, Node] = {}
        self._termination_messages = termination_messages
        self._fits = selector(label_selector) if label_selector else None
        self._home: dict[At, Home] = {}
        self._replicasets: dict[At, At | None] = {}
        """The kind and name of their controllers."""
        self._autoscalers: dict[At, tuple[Home, int | None]] = {}
        self._awaited: dict[Home, dict[At, None]] = {}
        self._synced: set[tuple[str, str | None]] = set()
        self._lacks: dict[tuple[str, str | None], Problem] = {}
        """Kinds and namespaces of which not all is known, and why."""

    def take(self, kind: str, one: Any) -> None:
        """What one object is now."""
        at = one.metadata.namespace, one.metadata.name
        if not self._has_room(kind, at):
            self.left_out.setdefault(kind, set()).add(at)
            return
        self._let_in(kind, at)
        if kind == "Pod":
            self._take_pod(at, seen_pod(one, termination_messages=self._termination_messages))
        elif kind == "ReplicaSet":
            owner = one.metadata.owner
            self._take_replicaset(at, (kind_of(owner), owner.name) if owner else None)
        elif kind == "HorizontalPodAutoscaler":
            self._take_autoscaler(at, one)
        elif kind == "Node":
            self._take_node(at[1], one)
        else:
            self._take_workload((at[0], kind, at[1]), self._selected(seen_workload(kind, one), one))

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """An object is no more."""
        at = namespace, name
        self._let_in(kind, at)
        if kind == "Pod":
            self._drop_pod(at)
        elif kind == "ReplicaSet":
            self._replicasets.pop(at, None)
        elif kind == "HorizontalPodAutoscaler":
            self._scale(at, None)
        elif kind == "Node":
            self._set_node(name, None)
        elif self.workloads.pop((namespace, kind, name), None):
            self.dirty[namespace, kind, name] = None

    def names(self, kind: str, namespace: str | None) -> list[At]:
        """All objects of a kind that are known."""
        known: Any = {
            "Pod": self.pods,
            "ReplicaSet": self._replicasets,
            "HorizontalPodAutoscaler": self._autoscalers,
            "Node": [("", name) for name in self.nodes],
        }.get(kind)
        if known is None:
            known = [(space, name) for space, one, name in self.workloads if one == kind]
        return [at for at in (*known, *self.left_out.get(kind, ())) if namespace in (None, at[0])]

    def _let_in(self, kind: str, at: At) -> None:
        """The object is left out no longer."""
        left = self.left_out.get(kind)
        if left and at in left:
            left.remove(at)
            if not left:
                del self.left_out[kind]
                self._touch(None)  # what was null because of it is known

    def _has_room(self, kind: str, at: At) -> bool:
        known: Any = {
            "Pod": self.pods,
            "ReplicaSet": self._replicasets,
            "HorizontalPodAutoscaler": self._autoscalers,
            "Node": self.nodes,
        }.get(kind, self.workloads)
        return len(known) < MAX_OBJECTS or at in known or (at[0], kind, at[1]) in known

    def synced(self, kind: str, namespace: str | None) -> None:
        """All objects of a kind are known from now on."""
        if (kind, namespace) in self._synced:
            return
        self._synced.add((kind, namespace))
        self._lacks.pop((kind, namespace), None)
        self._touch(namespace)  # what was null because of it is known

    def lack(self, kind: str, namespace: str | None, problem: Problem) -> None:
        """Say why not all objects of a kind are known; the same again changes nothing."""
        at = kind, namespace
        if at in self._synced and kind not in self.left_out:
            return  # what is known stays
        old = self._lacks.get(at)
        if old is None or (old.reason, old.message) != (problem.reason, problem.message):
            self._lacks[at] = problem
            self._touch(namespace)

    def _touch(self, namespace: str | None) -> None:
        homes = [home for home in self.workloads | self.members if namespace in (None, home[0])]
        self.dirty.update(dict.fromkeys(homes))

    def is_synced(self, kind: str, namespace: str) -> bool:
        return (kind, None) in self._synced or (kind, namespace) in self._synced

    def is_complete(self, kind: str, namespace: str) -> bool:
        """Whether every object of a kind is known."""
        return kind not in self.left_out and self.is_synced(kind, namespace)

    def has_all_pods(self, home: Home) -> bool:
        """Whether every pod of a workload is known, so that they may be counted."""
        seen = self.workloads.get(home)
        is_selected = seen is None or seen.is_selected
        return is_selected and all(
            self.is_complete(kind, home[0]) for kind in needed_for_pods(home[1])
        )

    def is_left_out(self, home: Home) -> bool:
        """Whether the label selector does not fit the workload itself, or it was deleted."""
        is_missing = home[1] in VIEWS and home not in self.workloads
        return self._fits is not None and is_missing and self.is_complete(home[1], home[0])

    def doubts(self, home: Home) -> Iterator[Problem]:
        """Why something of a workload is not known: of its pods, of itself, of what scales it."""
        yield from self._doubts(home, needed_for_pods(home[1]))
        if home[1] in VIEWS:
            yield from self._doubts(home, (home[1],))
        if home[1] not in UNSCALED:
            yield from self._doubts(home, ("HorizontalPodAutoscaler",))

    def doubts_of_pods(self, home: Home) -> Iterator[Problem]:
        """Why not all of its pods are known."""
        return self._doubts(home, needed_for_pods(home[1]))

    def _doubts(self, home: Home, kinds: Iterable[str]) -> Iterator[Problem]:
        for kind in kinds:
            problem = self._lacks.get((kind, None)) or self._lacks.get((kind, home[0]))
            if problem and not self.is_complete(kind, home[0]):
                yield problem

    def is_on_ready_node(self, pod: SeenPod) -> bool | None:
        """Whether the pod's node is ready: as the node says, else as the pod was marked."""
        node = self.nodes.get(pod.pod.node or "")
        if node:
            return node.ready
        return False if pod.on_lost_node else None

    def max_pods(self, home: Home) -> int | None:
        """By what scales it, else its replicas; null where it is not known what scales it."""
        one = self.workloads.get(home)
        if home[1] in UNSCALED:
            return one.replicas if one else None
        if home in self.autoscaled:
            return max(self.autoscaled[home].values())
        is_known = self.is_complete("HorizontalPodAutoscaler", home[0])
        return one.replicas if one and is_known else None

    def pods_of(self, home: Home) -> list[SeenPod]:
        """Its pods by name."""
        return [self.pods[home[0], name] for name in self.members.get(home, ())]

    def home(self, at: At) -> Home | None:
        """The workload that a pod belongs to."""
        return self._home.get(at)

    def give_up(self, at: At) -> None:
        """The pod has waited long enough for its owner."""
        if at in self.waiting:
            self._settle(at, wait=False)

    # pods

    def _take_pod(self, at: At, pod: SeenPod) -> None:
        old = self.pods.get(at)
        if pod == old:
            return
        self.pods[at] = pod
        if old and old.owner != pod.owner:
            self._leave(at)
        home = self._home.get(at)
        if home is None:
            self._settle(at)
        else:
            self.dirty[home] = None

    def _drop_pod(self, at: At) -> None:
        if self.pods.pop(at, None) is not None:
            self._leave(at)
            self._wait_no_more(at)

    def _settle(self, at: At, *, wait: bool = True) -> None:
        """Put a pod where it belongs, or let it wait until that is known."""
        home, missing = self._find(at)
        self._wait_no_more(at)
        if missing and wait:
            self.waiting[at] = missing
            self._awaited.setdefault(missing, {})[at] = None
            return
        if home != self._home.get(at):
            self._leave(at)
            self._home[at] = home
            insort(self.members.setdefault(home, []), at[1])
        self.dirty[home] = None

    def _find(self, at: At) -> tuple[Home, Home | None]:
        """A pod's home, and what has to be seen before that is certain."""
        namespace, name = at
        owner = self.pods[at].owner
        known = self._home.get(at)
        if owner is None:
            return (namespace, "Pod", name), None
        if owner[0] == "ReplicaSet":
            if (namespace, owner[1]) not in self._replicasets:
                # Where the ReplicaSet is gone already its pods stay where they were.
                home = known or (namespace, *owner)
                return home, None if known else self._missing(home)
            owner = self._replicasets[namespace, owner[1]] or owner
        home = (namespace, *owner)
        is_seen = known or owner[0] not in VIEWS or home in self.workloads
        return home, None if is_seen else self._missing(home)

    def _missing(self, home: Home) -> Home | None:
        """The owner, if it is to be expected: what is not synced may take for ever."""
        return home if self.is_synced(home[1], home[0]) else None

    def _wait_no_more(self, at: At) -> None:
        missing = self.waiting.pop(at, None)
        if missing:
            del self._awaited[missing][at]
            if not self._awaited[missing]:
                del self._awaited[missing]

    def _leave(self, at: At) -> None:
        home = self._home.pop(at, None)
        if home is None:
            return
        names = self.members[home]
        del names[bisect_left(names, at[1])]
        if not names:
            del self.members[home]
        self.dirty[home] = None

    # nodes

    def _take_node(self, name: str, one: objects.Node) -> None:
        ready = next((c for c in one.status.conditions or () if c.type == "Ready"), None)
        self._set_node(name, Node(ready.status == "True", ready.reason) if ready else None)

    def _set_node(self, name: str, node: Node | None) -> None:
        old = self.nodes.pop(name, None)
        if node:
            self.nodes[name] = node
        if node != old:
            homes = [self._home.get(at) for at, pod in self.pods.items() if pod.pod.node == name]
            self.dirty.update(dict.fromkeys([home for home in homes if home]))

    # owners

    def _selected(self, seen: SeenWorkload, one: Any) -> SeenWorkload:
        """With whether the label selector fits its pods; they have the labels of its template."""
        if self._fits is None:
            return seen
        metadata = one.spec.template.metadata
        return replace(seen, is_selected=self._fits((metadata and metadata.labels) or {}))

    def _take_workload(self, home: Home, seen: SeenWorkload) -> None:
        old = self.workloads.get(home)
        seen = followed(old, seen)
        is_rolling = home[1] != "Job" and seen.live.rollout != "complete"
        if old and not old.is_selected and is_rolling:
            seen = replace(seen, is_selected=False)  # pods of its old template may be left
        if old != seen:
            self.workloads[home] = seen
            self.dirty[home] = None
        self._arrived(home)

    def _take_replicaset(self, at: At, owner: At | None) -> None:
        if at in self._replicasets and self._replicasets[at] == owner:
            return
        namespace, name = at
        was = (namespace, *(self._replicasets.get(at) or ("ReplicaSet", name)))
        self._replicasets[at] = owner
        for pod in list(self.members.get(was, ())):
            if self.pods[namespace, pod].owner == ("ReplicaSet", name):
                self._settle((namespace, pod))
        self._arrived((namespace, "ReplicaSet", name))

    def _arrived(self, home: Home) -> None:
        for at in list(self._awaited.get(home, ())):
            self._settle(at)

    # autoscalers

    def _take_autoscaler(self, at: At, one: objects.Autoscaler) -> None:
        target = one.spec.scale_target_ref
        self._scale(at, ((at[0], kind_of(target), target.name), one.spec.max_replicas))

    def _scale(self, at: At, what: tuple[Home, int | None] | None) -> None:
        old = self._autoscalers.pop(at, None)
        if what:
            self._autoscalers[at] = what
        if what == old:
            return
        for home, _ in filter(None, (old, what)):
            self._rescale(home, at[1], what[1] if what and what[0] == home else None)

    def _rescale(self, home: Home, name: str, most: int | None) -> None:
        """Let one autoscaler of this target have this maximum, or none."""
        maxima = self.autoscaled.setdefault(home, {})
        maxima.pop(name, None)
        if most is not None:
            maxima[name] = most
        if not maxima:
            del self.autoscaled[home]
        self.dirty[home] = None


def needed_for_pods(kind: str) -> tuple[str, ...]:
    """The kinds that must be known for the pods of a workload to be."""
    return ("Pod", "ReplicaSet") if kind in ("Deployment", "ReplicaSet") else ("Pod",)
