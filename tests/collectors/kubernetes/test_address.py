"""The API server's address, from the environment or a kubeconfig."""

import json
from pathlib import Path
from typing import Any

import pytest

from telemetron_collectors.kubernetes import KubernetesConfig, collector

CLUSTERS = [
    {"name": "one", "cluster": {"server": "https://user:secret@one.example:6443/path"}},
    {"name": "two", "cluster": {"server": "https://[fd00::2]"}},
]
CONTEXTS = [{"name": name, "context": {"cluster": name}} for name in ("one", "two", "gone")]
KUBECONFIG = {"current-context": "one", "contexts": CONTEXTS, "clusters": CLUSTERS}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    file = tmp_path / "config"
    file.write_text(json.dumps(KUBECONFIG))
    return str(file)


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("10.0.0.1", "443", "10.0.0.1:443"),
        ("fd00::1", "6443", "[fd00::1]:6443"),
        ("", "443", None),
        ("10.0.0.1", "x", None),
        ("10.0.0.1", "", None),
    ],
)
def test_in_a_cluster(monkeypatch, host: str, port: str, address: str | None) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    assert collector.address(KubernetesConfig()) == address


@pytest.mark.parametrize(
    ("context", "address"),
    [(None, "one.example:6443"), ("two", "[fd00::2]:443"), ("gone", None), ("nobody", None)],
)
def test_address_of_a_kubeconfig(kubeconfig: str, context: str | None, address: str | None) -> None:
    config = KubernetesConfig(config="kubeconfig", kubeconfig=kubeconfig, context=context)
    assert collector.address(config) == address


def test_address_of_the_environments_kubeconfig(monkeypatch, kubeconfig: str) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    assert collector.address(KubernetesConfig(config="kubeconfig")) == "one.example:6443"


@pytest.mark.parametrize("content", ["", "[]", "a: [", "contexts: 1", "\x00", '{"contexts": [1]}'])
def test_invalid_kubeconfig_has_no_address(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    for path in (str(file), str(tmp_path / "nothing")):
        config = KubernetesConfig(config="kubeconfig", kubeconfig=path)
        assert collector.address(config) is None
