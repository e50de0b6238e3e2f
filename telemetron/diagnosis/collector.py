"""The collector `findings`: it observes what Telemetron itself publishes."""

import asyncio
import importlib.metadata
from collections.abc import Awaitable, Callable

from loguru import logger

from telemetron.collector import Collector, Output
from telemetron.diagnosis.diagnosis import Diagnosis
from telemetron.diagnosis.rule import ENTRY_POINTS, Rule
from telemetron.diagnosis.rules import RULES
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.document import Finding
from telemetron.store.store import Store

MAX_AGE_SECONDS = 30.0


async def nothing() -> list[Finding]:
    """Recall no findings."""
    return []


def collector(
    store: Store,
    diagnosed: asyncio.Event,
    recall: Callable[[], Awaitable[list[Finding]]] = nothing,
) -> Collector:
    """Return the collector that diagnoses this store; its first round sets the event.

    `recall` returns the findings that were open when the process before this one ended.
    """

    async def run(settings: FindingsSettings, output: Output) -> None:
        rules = await asyncio.to_thread(installed)  # it reads files
        await Diagnosis(store, output, rules, settings, diagnosed, await recall()).run()

    return Collector(
        name="findings",
        description="What is wrong, at its root.",
        config=FindingsSettings,
        sections=("findings",),
        max_age_seconds=lambda settings: MAX_AGE_SECONDS,
        run=run,
    )


def installed() -> dict[str, Rule]:
    """Return the built-in rules and those of installed packages; broken ones are left out."""
    rules = dict(RULES)
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        name = entry_point.name
        try:
            rule = entry_point.load()
        except Exception as error:
            logger.opt(exception=error).error("rule {} cannot be imported", name)
            continue
        if not isinstance(rule, Rule) or rule.name != name:
            logger.error("rule {} is left out: {} is no Rule of this name", name, entry_point.value)
        elif name in rules:
            logger.error("rule {} is left out: there is a rule of this name already", name)
        else:
            rules[name] = rule
    return rules
