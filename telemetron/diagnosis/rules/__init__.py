"""The built-in rules, one room a section."""

from telemetron.diagnosis.rule import Rule
from telemetron.diagnosis.rules import agents, litellm, queues, sources, workload

RULES: dict[str, Rule] = {
    rule.name: rule
    for module in (sources, workload, queues, litellm, agents)
    for rule in module.RULES
}
