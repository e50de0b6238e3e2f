"""All scenarios, by name."""

from importlib import import_module

from tests.real.incidents.scenario import SCENARIOS, Scenario

KINDS = ("agents", "decoys", "models", "queues", "several", "sources", "workloads")

for kind in KINDS:  # each module adds its own
    import_module(f"tests.real.incidents.scenarios.{kind}")

__all__ = ["SCENARIOS", "Scenario"]
