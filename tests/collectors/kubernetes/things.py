"""Objects as the API server shows them, reduced to what a test is about."""

from typing import Any

from telemetron_collectors.kubernetes.api.objects import KINDS

Object = dict[str, Any]

AT = "2026-11-28T10:00:00Z"


def metadata(name: str, owner: tuple[str, str] | None = None, **more: Any) -> Object:
    found: Object = {"name": name, "creationTimestamp": AT, "uid": f"uid-{name}", **more}
    if owner:
        kind, of = owner
        known = KINDS.get(kind)
        version = known.path.split("/", 2)[2] if known else "example.com/v1"
        reference = {"apiVersion": version, "kind": kind, "name": of, "uid": f"uid-{of}"}
        found["ownerReferences"] = [{**reference, "controller": True}]
    return found


def agent(name: str, **more: str) -> Object:
    """Annotations that declare an agent; `max_parallel_invocations` and the like are its keys."""
    rest = {f"telemetron.dev/{key.replace('_', '-')}": value for key, value in more.items()}
    return {"telemetron.dev/agent": name, **rest}


def pod(
    name: str, owner: tuple[str, str] | None = None, *, status: Object | None = None, **more: Any
) -> Object:
    running = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "startTime": AT,
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "main", "restartCount": 0, "state": {"running": {}}}],
    }
    return {
        "metadata": metadata(name, owner, **more),
        "spec": {"nodeName": "node-1", "containers": [container()]},
        "status": running if status is None else status,
    }


def container(image: str = "app:1", **limits: str) -> Object:
    limits = limits or {"cpu": "500m", "memory": "256Mi"}
    return {"name": "main", "image": image, "resources": {"limits": limits}}


def template(*containers: Object, **more: Any) -> Object:
    return {"metadata": more, "spec": {"containers": list(containers) or [container()]}}


def deployment(name: str, replicas: int = 1, *, more: Object | None = None, **meta: Any) -> Object:
    return {
        "metadata": metadata(name, generation=1, **meta),
        "spec": {"replicas": replicas, "template": template()},
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
                {
                    "type": "Progressing",
                    "status": "True",
                    "reason": "NewReplicaSetAvailable",
                    "lastUpdateTime": AT,
                },
            ],
        },
        **(more or {}),
    }


def replicaset(name: str, of: str | None, kind: str = "Deployment") -> Object:
    owner = (kind, of) if of else None
    return {"kind": "PartialObjectMetadata", "metadata": metadata(name, owner)}


def autoscaler(name: str, kind: str, of: str, most: int | None, version: str = "") -> Object:
    target = {"apiVersion": version, "kind": kind, "name": of}
    return {
        "metadata": metadata(name),
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": most},
    }
