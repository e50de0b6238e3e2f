"""Rules of queues: work that nobody takes, that does not move, or that comes too fast."""

from telemetron.diagnosis.rules.queues import backlog, consumers, dead_letters, poison, records

RULES = tuple(
    rule for module in (consumers, poison, backlog, records, dead_letters) for rule in module.RULES
)
