"""Rules of workloads: pods that crash, cannot start, or are missing."""

from telemetron.diagnosis.rules.workload import nodes, pods, replicas, scaling

RULES = tuple(rule for module in (pods, replicas, nodes, scaling) for rule in module.RULES)
