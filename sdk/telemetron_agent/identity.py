"""Who this process is: pod, namespace, instance, token; found where Kubernetes puts them."""

from __future__ import annotations

import os
import socket

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
"""Mounted into every pod that has a service account."""


def pod_name() -> str | None:
    """The pod's name as the downward API gives it in POD_NAME, or None."""
    return os.environ.get("POD_NAME") or None


def namespace(file: str = NAMESPACE_FILE) -> str | None:
    """POD_NAMESPACE, else the mounted namespace `file`, else None."""
    return os.environ.get("POD_NAMESPACE") or read(file)


def host() -> str:
    """The machine's name, which is the pod's in Kubernetes."""
    return socket.gethostname()


def environment_token() -> str | None:
    """TELEMETRON_TOKEN, else what stands in TELEMETRON_TOKEN_FILE now (it may be rotated)."""
    token = os.environ.get("TELEMETRON_TOKEN")
    file = os.environ.get("TELEMETRON_TOKEN_FILE")
    return token or (read(file) if file else None)


def read(file: str) -> str | None:
    """The stripped content of a small file; None when it is empty or cannot be read."""
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.read(65_536).strip() or None
    except (OSError, ValueError):
        return None
