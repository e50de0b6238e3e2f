"""What one process holds, for everything that answers of it."""

from telemetron.clock import Clock
from telemetron.config import Settings
from telemetron.store import Store
from telemetron.supervisor import Supervisor
from telemetron.web.connection import Readers
from telemetron.web.guard import Guard
from telemetron.web.waiters import Waiters


class Service:
    """One Telemetron: its settings, its store, its sources, its readers."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.store = Store(settings.id, clock)
        self.supervisor = Supervisor(self.store)
        self.guard = Guard(settings.server)
        self.waiters = Waiters(self.store.clock)
        self.readers = Readers()

    @property
    def stopping(self) -> bool:
        """Whether it takes new requests no more."""
        return self.waiters.stopping
