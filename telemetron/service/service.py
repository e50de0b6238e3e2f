"""What one process holds, for everything that answers of it."""

from collections.abc import Callable, Collection

from msgspec.structs import replace

from telemetron.clock import Clock
from telemetron.config.settings import Settings
from telemetron.history.history import History
from telemetron.history.limits import DEFAULTS, HistoryLimits
from telemetron.service.supervisor import Supervisor
from telemetron.store.store import Store
from telemetron.web.guard import Guard
from telemetron.web.server.connection import Readers
from telemetron.web.waiters import Waiters


class Service:
    """One Telemetron: its settings, its store, its sources, its readers."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        history_limits: HistoryLimits = DEFAULTS,
    ) -> None:
        self.settings = settings
        self.store = Store(settings.id, clock)
        self.supervisor = Supervisor(self.store)
        self.history = _history(settings, self.store, history_limits, self._feeds)
        self.guard = Guard(settings.server)
        self.waiters = Waiters(self.store.clock)
        self.readers = Readers()

    @property
    def stopping(self) -> bool:
        """Whether it takes new requests no more."""
        return self.waiters.stopping

    def _feeds(self, collector: str) -> Collection[str]:
        """Return the sections that a collector writes; none if it is not imported."""
        found = self.supervisor.collectors.get(collector)
        return found.sections if found else ()


def _history(
    settings: Settings,
    store: Store,
    limits: HistoryLimits,
    feeds: Callable[[str], Collection[str]],
) -> History:
    asked = settings.history
    mebibyte = 1024 * 1024
    limits = replace(
        limits,
        memory_bytes=asked.memory_mib * mebibyte,
        file_bytes=asked.file_mib * mebibyte,
        max_age=round(asked.max_age_hours * 3_600_000),
    )
    return History(store, limits, asked.path, feeds)
