"""The demo: Telemetron, and a small multi-agent program that it watches.

A planner splits texts into sections, two researchers summarise the sections, and a writer keeps a
report. The four processes hand each other work over Kafka topics, or over folders if there is no
broker.
"""

from telemetron.demo.program import AGENTS, main, run

__all__ = ["AGENTS", "main", "run"]
