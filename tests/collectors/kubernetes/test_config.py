"""Configuration of the collector."""

import pytest

from telemetron.config.settings import ConfigError, SourceSpec, configure, load
from telemetron_collectors.kubernetes import KubernetesConfig, collector


def test_environment_enables_the_collector():
    spec = load(None, {"TELEMETRON_KUBERNETES": "kubeconfig"}).sources["kubernetes"]
    assert configure(spec, collector) == KubernetesConfig(config="kubeconfig")
    assert "kubernetes" in load(None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).off


@pytest.mark.parametrize(
    "options",
    [
        {"namespaces": ["Not a name"]},
        {"namespaces": [""]},
        {"config": "cluster"},
        {"metrics_interval_seconds": 1},
        {"namespace": "x"},
    ],
)
def test_invalid_options_are_refused(options):
    origin = load(None, {}).sources["heartbeats"].origin
    with pytest.raises(ConfigError):
        configure(SourceSpec("kubernetes", "kubernetes", options, origin), collector)


def test_all_namespaces_are_an_asterisk():
    origin = load(None, {}).sources["heartbeats"].origin
    options = {"namespaces": ["*"]}
    config = configure(SourceSpec("kubernetes", "kubernetes", options, origin), collector)
    assert config.namespaces == ["*"]
    assert collector.max_age_seconds(config) == 75
