"""Telemetron without its history, to measure the costs of it."""

from telemetron.cli.commands import main
from telemetron.history import history


class NoHistory(history.History):
    """Record nothing."""

    def start(self) -> None:
        self._store.watchers.remove(self._published)


if __name__ == "__main__":
    from telemetron.service import service

    service.History = NoHistory  # type: ignore[misc]
    main()
