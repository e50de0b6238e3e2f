"""The collector `findings`: it observes what Telemetron itself publishes."""

import asyncio
import importlib.metadata

from loguru import logger

from telemetron.collector import Collector, Output
from telemetron.diagnosis.diagnosis import Diagnosis
from telemetron.diagnosis.rule import Rule
from telemetron.diagnosis.rules import RULES
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.store.store import Store

ENTRY_POINTS = "telemetron.rules"
MAX_AGE_SECONDS = 30.0


def collector(store: Store, diagnosed: asyncio.Event) -> Collector:
    """Return the collector that diagnoses this store; its first round sets the event."""

    async def run(settings: FindingsSettings, output: Output) -> None:
        rules = await asyncio.to_thread(installed)  # it reads files
        await Diagnosis(store, output, rules, settings, diagnosed).run()

    return Collector(
        name="findings",
        description="What is wrong, at its root.",
        config=FindingsSettings,
        sections=("findings",),
        max_age_seconds=lambda settings: MAX_AGE_SECONDS,
        run=run,
    )


def installed() -> dict[str, Rule]:
    """The built-in rules, and those of installed packages; a broken one is left out."""
    rules = dict(RULES)
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            rule = entry_point.load()
        except Exception as error:
            logger.opt(exception=error).error("rule {} cannot be imported", entry_point.name)
            continue
        if isinstance(rule, Rule) and rule.name not in rules:
            rules[rule.name] = rule
    return rules
