"""The demo: Telemetron, and a small multi-agent program that it watches.

A planner splits texts into sections, two researchers find out what each says, a writer keeps a
report: four processes that hand each other work over the topics of a Kafka broker, or over folders
where there is none.
"""

from telemetron.demo.program import AGENTS, main, run

__all__ = ["AGENTS", "main", "run"]
