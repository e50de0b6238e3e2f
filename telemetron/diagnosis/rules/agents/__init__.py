"""Rules of agents: silence, tasks that get nowhere, and loops between agents."""

from telemetron.diagnosis.rules.agents import failures, instances, load, rings, stalls, strays

RULES = tuple(
    rule for module in (instances, stalls, rings, load, strays, failures) for rule in module.RULES
)
