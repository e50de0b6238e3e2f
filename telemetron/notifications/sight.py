"""Since when each source is in sight: only then its findings begin and end."""

from collections.abc import Iterable

from telemetron.clock import Clock
from telemetron.document import SourceRow

SEEN = ("ok", "degraded")
"""Of a degraded source the last values of scopes in trouble stay, so no finding of them ends."""
OWN = "findings"
"""The source that concludes."""


class Sight:
    """Since when each source has been in sight without a break, on the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._since: dict[str, float | None] = {}

    def look(self, rows: Iterable[SourceRow]) -> None:
        """Note the status of sources."""
        for row in rows:
            if row.status == "off":  # nothing will be observed by it again
                self._since.pop(row.key, None)
            elif not _is_seen(row):
                self._since[row.key] = None
            elif self._since.get(row.key) is None:
                self._since[row.key] = self._clock.monotonic()

    def since(self, name: str) -> float | None:
        """Return since when a source is in sight; None if it is not.

        A source that is off, or no longer configured, counts from the start.
        """
        return self._since.get(name, self._began)


def _is_seen(row: SourceRow) -> bool:
    """Return whether the source observes; the findings are not all listed if there are too many."""
    is_cut = row.key == OWN and any(one.reason == "LimitReached" for one in row.problems)
    return row.status in SEEN and not is_cut
