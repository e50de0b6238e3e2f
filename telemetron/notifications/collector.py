"""The source `notifications`: it observes what Telemetron publishes, and shows failing receivers.

While it is `ok`, every receiver has accepted everything that is older than `MAX_AGE_SECONDS`.
"""

import asyncio
from importlib import import_module

from telemetron.collector import Collector, Output
from telemetron.history.history import History
from telemetron.notifications.pace import DEFAULTS, Pace
from telemetron.notifications.settings import NotificationSettings
from telemetron.store.store import Store

NAME = "notifications"
MAX_AGE_SECONDS = 300.0


def collector(store: Store, history: History, pace: Pace = DEFAULTS) -> Collector:
    """Return the collector that notifies of the findings of this store."""
    saved: list[object] = []  # the memory, which outlives a run that crashes

    async def run(settings: NotificationSettings, output: Output) -> None:
        output.confirm()  # nothing waits yet
        # In a thread: the HTTP client takes 200 ms to import.
        room = f"{__package__}"
        memory = await asyncio.to_thread(import_module, f"{room}.memory")
        notifications = await asyncio.to_thread(import_module, f"{room}.notifications")
        if not saved:
            saved.append(memory.HistoryMemory(history, output.clock))
        made = notifications.Notifications(settings, store, history, saved[0], output, pace)
        await made.run()

    return Collector(
        name=NAME,
        description="Reports findings to Alertmanager and to webhooks.",
        config=NotificationSettings,
        sections=(),
        max_age_seconds=lambda settings: MAX_AGE_SECONDS,
        run=run,
    )
