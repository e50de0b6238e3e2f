"""Kubernetes: the pods and workloads that run, and the agents that annotations declare."""

from telemetron.collector import Collector
from telemetron_collectors.kubernetes.address import address
from telemetron_collectors.kubernetes.config import KubernetesConfig
from telemetron_collectors.kubernetes.observer import observe

# The API server sends a bookmark to each watch every 60 s.
MAX_AGE_SECONDS = 75.0

collector = Collector(
    name="kubernetes",
    description="Watches pods and their workloads through the Kubernetes API.",
    config=KubernetesConfig,
    sections=("workload", "agents"),
    agent_rank=200,
    max_age_seconds=lambda config: MAX_AGE_SECONDS,
    address=address,
    run=observe,
)
