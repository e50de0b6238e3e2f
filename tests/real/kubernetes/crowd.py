"""Many pods, and many changes of them: written into etcd as the API server stores them.

What is copied is real: a Deployment with its ReplicaSet and its pod, made by the controllers.
Copies differ in names, uids and addresses of the same length, so that their encoding (protobuf)
stays valid. So 10,000 pods take 2 s, and the API server serves them as any others.
"""

import base64
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from tests.real.controlplane import ControlPlane
from tests.real.process import wait_until

NAME = "w00000"
REGISTRY = "/registry"
BATCH = 100
VARIABLES = [{"name": f"SETTING_{n}", "value": f"value of setting {n}"} for n in range(12)]
CONTAINER = {
    "name": "main",
    "image": "example.invalid/crowd:1.2.3",
    "command": ["python", "-m", "crowd"],
    "env": VARIABLES,
    "ports": [{"containerPort": 8080, "name": "http"}],
    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 10},
    "livenessProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 10},
    "resources": {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "256Mi"},
    },
    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
}
POD = {"containers": [CONTAINER], "volumes": [{"name": "cache", "emptyDir": {}}]}


class Stored(NamedTuple):
    """One object in etcd."""

    key: str
    value: bytes


class Crowd:
    """Workloads of one namespace, all alike; `fill` first, then `change`.

    All crowds of a cluster are to be made before the first is filled.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.pods: list[Stored] = []
        self._length = 0
        """Of a pod's address."""
        self._turns = itertools.count()
        self._last = 0
        self._etcd = HTTPConnection(urlsplit(plane.etcd).netloc, timeout=30)
        self._models = self._model()

    def fill(self, workloads: int, each: int) -> None:
        """So many Deployments with so many pods each, all running; the controllers are stopped.

        They would delete all but one of each, as the Deployments say.
        """
        deployment, replicas, pod = self._models
        self.plane.stop("kwok", "kube-scheduler", "kube-controller-manager", kill=True)
        self._length = len(_address(pod.value))
        made: list[Stored] = []
        for at in range(workloads):
            owner = Copy(at, [deployment.value, replicas.value])
            if at:  # the first is the model itself
                made += [owner.of(deployment), owner.of(replicas)]
            for number in range(each):
                if at or number:
                    one = owner.pod(pod, number, _ip_of(at * each + number, self._length))
                    self.pods.append(one)
        self._put(made + self.pods)
        self.pods.append(pod)

    def change(self, pods: int, at_once: int = BATCH) -> None:
        """Give the next so many pods new addresses, so many in one transaction.

        Objects of one transaction share their resourceVersion, as the API server's own writes never
        do: a watch that is closed between two of them resumes after both, and misses the second.
        """
        batch = []
        for turn in itertools.islice(self._turns, pods):
            at = turn % len(self.pods)
            key, value = self.pods[at]
            ip = _ip_of(len(self.pods) + turn, self._length)
            self.pods[at] = Stored(key, value.replace(_address(value), ip))
            batch.append(self.pods[at])
            self._last = at
        self._put(batch, at_once)

    def last(self) -> tuple[str, str]:
        """The pod that was changed last, and its address."""
        key, value = self.pods[self._last]
        return key.rpartition("/")[2], _address(value).decode()

    def addresses(self) -> dict[str, str]:
        """That of each pod."""
        return {key.rpartition("/")[2]: _address(value).decode() for key, value in self.pods}

    def close(self) -> None:
        self._etcd.close()

    def _model(self) -> list[Stored]:
        """A Deployment, its ReplicaSet and its pod, once the pod runs."""
        labels = {"app": NAME}
        template = {"metadata": {"labels": labels}, "spec": POD}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        call = self.plane.call
        call("POST", path, {"metadata": {"name": NAME}, "spec": spec})
        wait_until(
            lambda: call("GET", f"{path}/{NAME}")["status"].get("availableReplicas") == 1,
            seconds=60,
            what="the model",
        )
        kinds = ("deployments", "replicasets", "pods")
        return [self._one(f"{REGISTRY}/{kind}/{self.namespace}/") for kind in kinds]

    def _one(self, prefix: str) -> Stored:
        """The only one under the prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        answer = self._ask("/v3/kv/range", {"key": _b64(prefix), "range_end": _b64(end)})
        (found,) = answer["kvs"]
        return Stored(base64.b64decode(found["key"]).decode(), base64.b64decode(found["value"]))

    def _put(self, stored: Iterable[Stored], at_once: int = BATCH) -> None:
        for batch in _batches(stored, at_once):
            puts = [
                {
                    "request_put": {
                        "key": _b64(one.key),
                        "value": base64.b64encode(one.value).decode(),
                    }
                }
                for one in batch
            ]
            self._ask("/v3/kv/txn", {"success": puts})

    def _ask(self, path: str, body: Any) -> Any:
        self._etcd.request("POST", path, json.dumps(body))
        answer = self._etcd.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(text[:500])
        return json.loads(text)


class Copy:
    """One workload's objects, with a name and uids of their own."""

    def __init__(self, at: int, models: list[bytes]) -> None:
        self._name = f"w{at:05}".encode()
        uids = {_uid(model) for model in models}
        self._uids = {uid: str(uuid4()).encode() if at else uid for uid in uids}

    def of(self, model: Stored) -> Stored:
        """The Deployment or the ReplicaSet."""
        return Stored(model.key.replace(NAME, self._name.decode()), self._renamed(model.value))

    def pod(self, model: Stored, number: int, ip: bytes) -> Stored:
        """One pod of it."""
        old = model.key.rpartition("/")[2]
        new = f"{old.rpartition('-')[0]}-{number:05}".replace(NAME, self._name.decode())
        value = model.value.replace(old.encode(), new.encode())
        value = value.replace(_uid(model.value), str(uuid4()).encode())
        value = value.replace(_address(model.value), ip)
        return Stored(model.key.replace(old, new), self._renamed(value))

    def _renamed(self, value: bytes) -> bytes:
        for old, new in self._uids.items():
            value = value.replace(old, new)
        return value.replace(NAME.encode(), self._name)


def _uid(value: bytes) -> bytes:
    """The object's own: the first that stands in it."""
    found = re.search(rb"\$([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", value)
    assert found
    return found[1]


def _address(value: bytes) -> bytes:
    """The pod's, of the kind that kwok and `_ip_of` give."""
    found = re.search(rb"2[\x07-\x0f](10\.\d+\.\d+\.\d+)", value)
    assert found, value
    return found[1]


def _ip_of(number: int, length: int) -> bytes:
    """An address of this length; of 10 characters, there are 15,500."""
    digits = length - len("10...")
    first = min(3, digits - 2)
    second = min(3, digits - first - 1)
    octets = []
    for size in (first, second, digits - first - second):
        lowest, count = ((0, 10), (10, 90), (100, 155))[size - 1]
        octets.append(str(lowest + number % count))
        number //= count
    return ".".join(["10", *octets]).encode()


def _batches(stored: Iterable[Stored], size: int) -> Iterator[list[Stored]]:
    left = iter(stored)
    while batch := list(itertools.islice(left, size)):
        yield batch


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
