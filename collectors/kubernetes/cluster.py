"""The cluster as the watches see it: pods, the workloads they belong to, and what changed.

A workload's `home` is (namespace, kind, name). A pod's is that of its controller, or, where that is
a ReplicaSet, of the ReplicaSet's; a pod without a controller is its own.
"""

from bisect import bisect_left, insort
from datetime import UTC, datetime
from typing import Any

from collectors.kubernetes import objects
from collectors.kubernetes.objects import KINDS
from collectors.kubernetes.pods import SeenPod, seen_pod
from collectors.kubernetes.workloads import VIEWS, SeenWorkload, followed, seen_workload

LAST_PODS_OF_A_JOB = 3
# Five times what is measured; of each kind, the four of workloads together.
MAX_OBJECTS = 50_000
EARLIEST = datetime.min.replace(tzinfo=UTC)

Home = tuple[str, str, str]
At = tuple[str, str]
"""Namespace and name."""


class Cluster:
    """All that is known; `dirty` are the homes whose workload may look different now."""

    def __init__(self, *, termination_messages: bool = False) -> None:
        self.pods: dict[At, SeenPod] = {}
        self.workloads: dict[Home, SeenWorkload] = {}
        self.members: dict[Home, list[str]] = {}
        """The names of its pods, sorted."""
        self.autoscaled: dict[Home, dict[str, int]] = {}
        """The maxima of the autoscalers of each target, by the autoscaler's name."""
        self.dirty: dict[Home, None] = {}
        self.waiting: dict[At, Home] = {}
        """Pods whose owner has not been seen yet, and that owner."""
        self.limited: set[str] = set()
        """Kinds of which there are too many to know all."""
        self._termination_messages = termination_messages
        self._home: dict[At, Home] = {}
        self._replicasets: dict[At, At | None] = {}
        """The kind and name of their controllers."""
        self._autoscalers: dict[At, tuple[Home | None, int | None]] = {}
        self._awaited: dict[Home, dict[At, None]] = {}
        self._synced: set[tuple[str, str | None]] = set()

    def take(self, kind: str, one: Any) -> None:
        """What one object is now."""
        at = one.metadata.namespace, one.metadata.name
        if not self._has_room(kind, at):
            self.limited.add(kind)
        elif kind == "Pod":
            self._take_pod(at, seen_pod(one, termination_messages=self._termination_messages))
        elif kind == "ReplicaSet":
            owner = one.metadata.owner
            self._take_replicaset(at, (owner.kind, owner.name) if owner else None)
        elif kind == "HorizontalPodAutoscaler":
            self._take_autoscaler(at, one)
        else:
            self._take_workload((at[0], kind, at[1]), seen_workload(kind, one))

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """An object is no more."""
        at = namespace, name
        if kind == "Pod":
            self._drop_pod(at)
        elif kind == "ReplicaSet":
            self._replicasets.pop(at, None)
        elif kind == "HorizontalPodAutoscaler":
            self._scale(at, None)
        elif self.workloads.pop((namespace, kind, name), None):
            self.dirty[namespace, kind, name] = None

    def names(self, kind: str, namespace: str | None) -> list[At]:
        """All objects of a kind that are known."""
        known: Any = {
            "Pod": self.pods,
            "ReplicaSet": self._replicasets,
            "HorizontalPodAutoscaler": self._autoscalers,
        }.get(kind)
        if known is None:
            known = [(space, name) for space, one, name in self.workloads if one == kind]
        return [at for at in known if namespace in (None, at[0])]

    def _has_room(self, kind: str, at: At) -> bool:
        known: Any = {
            "Pod": self.pods,
            "ReplicaSet": self._replicasets,
            "HorizontalPodAutoscaler": self._autoscalers,
        }.get(kind, self.workloads)
        return len(known) < MAX_OBJECTS or at in known or (at[0], kind, at[1]) in known

    def synced(self, kind: str, namespace: str | None) -> None:
        """All objects of a kind are known from now on."""
        if (kind, namespace) in self._synced:
            return
        self._synced.add((kind, namespace))
        if kind in ("Pod", "HorizontalPodAutoscaler"):  # what was null because of it is known
            homes = [home for home in self.workloads if namespace in (None, home[0])]
            self.dirty.update(dict.fromkeys(homes))

    def is_synced(self, kind: str, namespace: str) -> bool:
        return (kind, None) in self._synced or (kind, namespace) in self._synced

    def max_pods(self, home: Home) -> int | None:
        """By what scales it, else its replicas; null where it is not known what scales it."""
        one = self.workloads.get(home)
        if one and not one.scalable:
            return one.replicas
        if home in self.autoscaled:
            return max(self.autoscaled[home].values())
        is_known = self.is_synced("HorizontalPodAutoscaler", home[0])
        return one.replicas if one and is_known else None

    def pods_of(self, home: Home) -> list[SeenPod]:
        """Its pods by name; of a finished job the last few."""
        pods = [self.pods[home[0], name] for name in self.members.get(home, ())]
        job = self.workloads.get(home)
        if job and job.is_over and len(pods) > LAST_PODS_OF_A_JOB:
            last = sorted(pods, key=_created)[-LAST_PODS_OF_A_JOB:]
            return sorted(last, key=lambda pod: pod.pod.pod_id)
        return pods

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
        home = self._home.get(at)
        if home is None or old is None or old.owner != pod.owner:
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

    # owners

    def _take_workload(self, home: Home, seen: SeenWorkload) -> None:
        seen = followed(self.workloads.get(home), seen)
        if self.workloads.get(home) != seen:
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
        home = (at[0], target.kind, target.name) if is_scaled(target) else None
        self._scale(at, (home, one.spec.max_replicas))

    def _scale(self, at: At, what: tuple[Home | None, int | None] | None) -> None:
        old = self._autoscalers.pop(at, None)
        if what:
            self._autoscalers[at] = what
        if what == old:
            return
        for home, _ in filter(None, (old, what)):
            if home:
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


def is_scaled(target: objects.Target) -> bool:
    """Whether this can be a workload as it is shown: a Deployment of another API group is none."""
    kind = KINDS.get(target.kind)
    group = target.api_version.rpartition("/")[0]
    return kind is None or not target.api_version or group == kind.group


def _created(pod: SeenPod) -> tuple[datetime, str]:
    return pod.pod.created_at or EARLIEST, pod.pod.pod_id
