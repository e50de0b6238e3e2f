"""Rules of queues: work that nobody takes, that does not move, or that comes too fast."""

from telemetron.diagnosis.rules.queues import backlog, consumers, poison, records

RULES = tuple(rule for module in (consumers, poison, backlog, records) for rule in module.RULES)
