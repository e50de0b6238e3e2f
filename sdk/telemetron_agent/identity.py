"""The identity of this process: pod, namespace, version, host and token."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
"""Kubernetes mounts it into every pod that has a service account."""

HOSTS_FILE = "/etc/hosts"
HOSTS_OF_A_POD = "# Kubernetes-managed hosts file.\n"
"""Its first line, written by the kubelet; not for pods on the host's network."""
LONGEST_HOST = 63
"""Characters; Kubernetes truncates longer pod names for the host name."""


def pod_name(
    file: str = HOSTS_FILE, hostname: Callable[[], str] = socket.gethostname
) -> str | None:
    """Return POD_NAME (downward API), or the host name if the hosts `file` is a pod's."""
    return environment("POD_NAME") or (_pod_host(hostname) if _is_of_a_pod(file) else None)


def _is_of_a_pod(file: str) -> bool:
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.readline(100) == HOSTS_OF_A_POD
    except (OSError, ValueError):
        return False


def _pod_host(hostname: Callable[[], str]) -> str | None:
    name = host(hostname)
    return name if len(name) < LONGEST_HOST else None


def version() -> str | None:
    """Return POD_VERSION (downward API, from a label), or `__version__` of the main module.

    The version of its package does not count: that may be a launcher, as in `python -m gunicorn`.
    """
    found = getattr(sys.modules.get("__main__"), "__version__", None)
    return environment("POD_VERSION") or (found if isinstance(found, str) else None)


def namespace(file: str = NAMESPACE_FILE) -> str | None:
    """Return POD_NAMESPACE, or the content of the mounted namespace `file`, or None."""
    return environment("POD_NAMESPACE") or read(file)


def host(hostname: Callable[[], str] = socket.gethostname) -> str:
    """Return the host name; in Kubernetes it is the pod's name."""
    try:
        return hostname()
    except (OSError, ValueError):  # the host has no name, or its name is not UTF-8
        return "unknown"


def environment_token() -> str | None:
    """Return TELEMETRON_TOKEN, or the present content of the file TELEMETRON_TOKEN_FILE."""
    file = environment("TELEMETRON_TOKEN_FILE")
    return environment("TELEMETRON_TOKEN") or (read(file) if file else None)


def environment(name: str) -> str | None:
    """Return an environment variable, stripped: the value of a Secret often ends with a newline."""
    return (os.environ.get(name) or "").strip() or None


def read(file: str) -> str | None:
    """Return the stripped content of a small file, or None if it is empty or unreadable."""
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.read(65_536).strip() or None
    except (OSError, ValueError):
        return None
