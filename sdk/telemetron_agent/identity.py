"""Who this process is: pod, namespace, version, host, token; found where Kubernetes puts them."""

from __future__ import annotations

import os
import socket
import sys

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
"""Mounted into every pod that has a service account."""


HOSTS_FILE = "/etc/hosts"
HOSTS_OF_A_POD = "# Kubernetes-managed hosts file.\n"
"""How the kubelet begins it, but for pods on the host's network, whose host is the node."""
LONGEST_HOST = 63
"""Characters; a longer pod name is cut to make the host's."""


def pod_name(file: str = HOSTS_FILE) -> str | None:
    """POD_NAME (downward API), else the host's name where the hosts `file` is a pod's."""
    return environment("POD_NAME") or (_pod_host() if _is_of_a_pod(file) else None)


def _is_of_a_pod(file: str) -> bool:
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.readline(100) == HOSTS_OF_A_POD
    except (OSError, ValueError):
        return False


def _pod_host() -> str | None:
    name = host()
    return name if len(name) < LONGEST_HOST else None


def version() -> str | None:
    """POD_VERSION (downward API, of a label), else `__version__` of the main module, else None.

    Not that of its package, which may be a launcher: `python -m gunicorn`.
    """
    found = getattr(sys.modules.get("__main__"), "__version__", None)
    return environment("POD_VERSION") or (found if isinstance(found, str) else None)


def namespace(file: str = NAMESPACE_FILE) -> str | None:
    """POD_NAMESPACE, else the mounted namespace `file`, else None."""
    return environment("POD_NAMESPACE") or read(file)


def host() -> str:
    """The machine's name, which is the pod's in Kubernetes."""
    try:
        return socket.gethostname()
    except (OSError, ValueError):  # none, or one that is no UTF-8
        return "unknown"


def environment_token() -> str | None:
    """TELEMETRON_TOKEN, else the content of the file TELEMETRON_TOKEN_FILE now: it may rotate."""
    file = environment("TELEMETRON_TOKEN_FILE")
    return environment("TELEMETRON_TOKEN") or (read(file) if file else None)


def environment(name: str) -> str | None:
    """An environment variable, stripped as files are: a Secret's value often ends a line."""
    return (os.environ.get(name) or "").strip() or None


def read(file: str) -> str | None:
    """The stripped content of a small file; None when it is empty or cannot be read."""
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.read(65_536).strip() or None
    except (OSError, ValueError):
        return None
