"""The API server's address, for `sources[].address`."""

import os
from typing import Any

import yaml

from telemetron.address import join, of_url
from telemetron_collectors.kubernetes.api.credentials import kubeconfig_path
from telemetron_collectors.kubernetes.config import KubernetesConfig

MAX_BYTES = 1024 * 1024


def address(config: KubernetesConfig) -> str | None:
    """Return `host:port`, or None if unknown. Reads the kubeconfig, so call it in a thread."""
    if config.config == "in-cluster":
        return _in_cluster()
    try:
        return _in_kubeconfig(config.kubeconfig, config.context)
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return None  # `run` reports what is wrong


def _in_cluster() -> str | None:
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    return join(host, int(port)) if host and port.isascii() and port.isdigit() else None


def _in_kubeconfig(file: str | None, context: str | None) -> str | None:
    with open(kubeconfig_path(file), "rb") as opened:
        content = yaml.safe_load(opened.read(MAX_BYTES))
    used = _named(content["contexts"], context or content["current-context"])["context"]
    return of_url(_named(content["clusters"], used["cluster"])["cluster"]["server"])


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return {item["name"]: item for item in items}[name]
