"""A real Kubernetes control plane on loopback: etcd, API server, controllers, scheduler, kwok.

All five are one binary, built once, with Go, into the cache. kwok plays the kubelets: nodes become
Ready, pods Running. There is no container runtime and no metrics server.
"""

import base64
import json
import secrets
import ssl
import subprocess
import tempfile
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.real import gomodule
from tests.real.process import running, wait_until

MODULE = Path(__file__).parent / "kubernetes" / "plane"
TIMEOUT = 30
CLIENTS = ("kube-controller-manager", "kube-scheduler", "kwok")
PARTS = ("etcd", "kube-apiserver", *CLIENTS)
UNTENDED = {"kubelet": "none"}
"""Labels of a pod that kwok leaves as it is, until it is deleted: a test plays its kubelet."""

ALIVE = """\
    - key: '.metadata.deletionTimestamp'
      operator: 'DoesNotExist'
"""
TENDED = f"""\
{ALIVE}    - key: '.metadata.labels.kubelet'
      operator: 'DoesNotExist'
"""
QUICK = ("--kube-api-qps=1000", "--kube-api-burst=2000", "--profiling=false")


def build() -> Path:
    """The binary; made where it is not there yet (about 6 minutes on 2 cores)."""
    # No debug tables are made only to be stripped; that halves the time.
    flags = ("-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {_versions()}")
    return gomodule.build("controlplane", MODULE, "kplane", *flags)


def _versions() -> str:
    """What the linker is to write in as the version of Kubernetes: that of go.mod."""
    lines = (MODULE / "go.mod").read_text().splitlines()
    version = next(
        line.split()[2] for line in lines if line.startswith("require k8s.io/kubernetes")
    )
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"Version": version, "Major": major, "Minor": minor, "TreeState": "clean"}
    package = "k8s.io/component-base/version"
    return " ".join(f"-X {package}.git{name}={value}" for name, value in values.items())


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body[:500]}")
        self.status = status


class ControlPlane:
    """The processes, and an administrator's access; `call` for any thread.

    `folder` keeps all that they write, so a part that was stopped goes on where it was.
    """

    def __init__(
        self,
        folder: Path,
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        self.etcd = f"http://127.0.0.1:{free_port()}"
        self.ca = folder / "ca.crt"
        self.token = secrets.token_urlsafe(24)
        self.apiserver_flags = tuple(apiserver_flags)
        self.controller_flags = tuple(controller_flags)
        self._binary = str(build())
        self._peer = f"http://127.0.0.1:{free_port()}"
        self._kwok_port = free_port()
        self._running: dict[str, tuple[ExitStack, subprocess.Popen[bytes]]] = {}
        self._idle: deque[HTTPSConnection] = deque()
        self._prepare()

    def start(self, *parts: str) -> None:
        """Start these parts (or all) that do not run, and wait until they serve.

        With a new API server its clients are started anew: client-go looks for a server that was
        away again only after a backoff of up to a minute.
        """
        wanted = {*(parts or PARTS)} - {*self._running}
        if "kube-apiserver" in wanted:
            clients = [part for part in CLIENTS if part in self._running]
            if clients:
                self.stop(*clients, kill=True)
            wanted |= {*clients}
        for part in PARTS:
            if part in wanted:
                stack = ExitStack()
                command = [self._binary, part, *self._arguments(part)]
                log = self.folder / f"{part}.log"
                self._running[part] = (stack, stack.enter_context(running(command, log=log)))
                self._wait(part)

    def stop(self, *parts: str, kill: bool = False) -> None:
        """End those of these parts (or of all) that run, the last started first."""
        for part in [one for one in reversed(self._running) if one in (parts or PARTS)]:
            stack, process = self._running.pop(part)
            if kill:
                process.kill()
            stack.close()
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def oracle(self, question: str) -> Iterator[Callable[[Any], Any]]:
        """Ask upstream's own code: `pod-resources` of a pod, `rollout-status` of a workload.

        The function that is yielded takes an object of the API and returns the oracle's answer.
        """
        pipe = subprocess.PIPE
        with subprocess.Popen([self._binary, question], stdin=pipe, stdout=pipe) as process:

            def ask(object: Any) -> Any:
                process.stdin.write(json.dumps(object).encode() + b"\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())

            try:
                yield ask
            finally:
                process.stdin.close()

    def table(self, path: str) -> list[dict[str, Any]]:
        """The rows that `kubectl get` would print of this path, by column name."""
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        answer = self.call("GET", path, accept=accept)
        names = [column["name"] for column in answer["columnDefinitions"]]
        return [dict(zip(names, row["cells"], strict=True)) for row in answer["rows"]]

    def pid(self, part: str) -> int:
        """The part's process."""
        return self._running[part][1].pid

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        accept: str = "application/json",
    ) -> Any:
        """One request, as administrator or with this token; ApiError above 299, OSError."""
        kind = "application/json"
        if method == "PATCH":
            kind = "application/merge-patch+json"
        authorization = f"Bearer {token or self.token}"
        headers = {"Authorization": authorization, "Content-Type": kind, "Accept": accept}
        data = None if body is None else json.dumps(body)
        status, text = self._exchange(method, path, data, headers)
        if status > 299:
            raise ApiError(status, text)
        return json.loads(text) if text[:1] in "{[" else text

    def account(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A new token of the service account, which is made where it is not there."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        with suppress(ApiError):
            self.call("POST", path, {"metadata": {"name": name}})
        answer = self.call("POST", f"{path}/{name}/token", {"spec": {"expirationSeconds": seconds}})
        return str(answer["status"]["token"])

    def kubeconfig(self, name: str, token: str | None = None, server: str | None = None) -> Path:
        """A file for a client; as administrator, straight to the server, unless told otherwise."""
        cluster = {"server": server or self.server, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file = self.folder / f"{name}.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def compact(self) -> None:
        """Forget all that was before now: who asks etcd for it gets 410."""
        revision = self.ask_etcd("/v3/kv/range", {"key": _b64("a")})["header"]["revision"]
        self.ask_etcd("/v3/kv/compaction", {"revision": revision, "physical": True})

    def ask_etcd(self, path: str, body: Any) -> Any:
        """One request of etcd's JSON gateway; keys and values are base64."""
        request = urllib.request.Request(self.etcd + path, data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)

    def _prepare(self) -> None:
        key = subprocess.run([self._binary, "rsa-key"], check=True, capture_output=True).stdout
        stages = subprocess.run([self._binary, "kwok-stages"], check=True, capture_output=True)
        (self.folder / "sa.key").write_bytes(key)
        (self.folder / "stages.yaml").write_text(stages.stdout.decode().replace(ALIVE, TENDED))
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        self.kubeconfig("admin")

    def _arguments(self, part: str) -> list[str]:
        folder = self.folder
        config = f"--kubeconfig={folder / 'admin.kubeconfig'}"
        alone = ("--leader-elect=false", "--bind-address=127.0.0.1")
        match part:
            case "etcd":
                return [
                    *("--name=test", f"--data-dir={folder / 'etcd'}", "--log-level=warn"),
                    *(f"--listen-client-urls={self.etcd}", f"--advertise-client-urls={self.etcd}"),
                    f"--listen-peer-urls={self._peer}",
                    f"--initial-advertise-peer-urls={self._peer}",
                    f"--initial-cluster=test={self._peer}",
                    *("--unsafe-no-fsync", f"--quota-backend-bytes={2 << 30}"),
                ]
            case "kube-apiserver":
                signing = folder / "sa.key"
                return [
                    *(f"--etcd-servers={self.etcd}", f"--secure-port={self.port}"),
                    *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
                    *("--endpoint-reconciler-type=none", f"--cert-dir={folder / 'certs'}"),
                    "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-signing-key-file={signing}",
                    f"--service-account-key-file={signing}",
                    f"--token-auth-file={folder / 'tokens.csv'}",
                    *("--authorization-mode=RBAC", "--service-cluster-ip-range=10.255.0.0/24"),
                    *("--profiling=false", *self.apiserver_flags),
                ]
            case "kube-controller-manager":
                key = f"--service-account-private-key-file={folder / 'sa.key'}"
                root = f"--root-ca-file={self.ca}"
                flags = (*QUICK, *self.controller_flags)
                return [config, *alone, "--secure-port=0", key, root, *flags]
            case "kube-scheduler":
                return [config, *alone, "--secure-port=0", *QUICK]
            case "kwok":
                return [
                    *(config, "--manage-all-nodes", f"--config={folder / 'stages.yaml'}"),
                    *("--cidr=10.244.0.1/16", "--node-ip=127.0.0.1"),
                    *("--node-lease-duration-seconds=10",),
                    f"--server-address=127.0.0.1:{self._kwok_port}",
                ]
        raise ValueError(part)

    def _wait(self, part: str) -> None:
        match part:
            case "etcd":
                wait_until(self._etcd_serves, seconds=30, what=part)
            case "kube-apiserver":
                wait_until(self._take_ca, seconds=60, what="the API server's certificate")
                wait_until(lambda: self._serves("/readyz"), seconds=60, what=part)
            case "kube-controller-manager":
                default = "/api/v1/namespaces/default/serviceaccounts/default"
                wait_until(lambda: self._serves(default), seconds=60, what=part)

    def _etcd_serves(self) -> bool:
        with suppress(OSError):
            return bool(self.ask_etcd("/v3/kv/range", {"key": _b64("a")}))
        return False

    def _take_ca(self) -> bool:
        """The server's certificate file holds its own, then that of the CA."""
        with suppress(FileNotFoundError):
            text = (self.folder / "certs" / "apiserver.crt").read_text()
            begin = "-----BEGIN CERTIFICATE-----"
            self.ca.write_text(begin + text.rpartition(begin)[2])
            return text.count(begin) > 1
        return False

    def _serves(self, path: str) -> bool:
        with suppress(OSError, HTTPException, ApiError):
            self.call("GET", path)
            return True
        return False

    def _exchange(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, str]:
        """Connections are kept; one that the server has closed is left for another."""
        is_kept = bool(self._idle)
        connection = self._idle.pop() if is_kept else self._connect()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, HTTPException):
            connection.close()
            if is_kept:
                return self._exchange(method, path, body, headers)
            raise
        self._idle.append(connection)
        return answer.status, text

    def _connect(self) -> HTTPSConnection:
        trust = ssl.create_default_context(cafile=str(self.ca))
        return HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT, context=trust)


@contextmanager
def control_plane(
    *parts: str, apiserver_flags: Sequence[str] = (), controller_flags: Sequence[str] = ()
) -> Iterator[ControlPlane]:
    """These parts (or all), ended with the context, and all that they wrote."""
    with tempfile.TemporaryDirectory(prefix="controlplane-") as folder:
        plane = ControlPlane(Path(folder), apiserver_flags, controller_flags)
        try:
            plane.start(*parts)
            yield plane
        finally:
            plane.stop(kill=True)  # nobody will need what they would still write


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
