"""Limits and durations that the configuration does not set; tests pass others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KafkaLimits:
    """Durations are in seconds."""

    hold: float = 10.0
    """How long a value stays that is no longer confirmed, plus three intervals."""
    request: float = 3.0
    """For opening a connection, and for each response."""
    max_backoff: float = 15.0
    round_wait: float = 0.1
    """How long a round waits for responses; a later response counts in a later round."""
    first_round_wait: float = 1.0
    """The same until the first complete state is published."""
    refresh: float = 1.0
    """Between two reads of the topics' metadata, and of the groups' members."""
    discovery: float = 3.0
    """Between two searches for topics and groups, and 20 intervals at most."""
    retry: float = 0.5
    """Until a partition that returned no records is fetched again; twice that after an error."""
    unreadable: float = 10.0
    """Until a partition is read again whose records may not be read or cannot be decoded."""
    compaction: float = 5.0
    """Between two checks for compacted records, and 50 intervals at most."""
    transactions: float = 1.0
    """Between two checks for open transactions."""
    long_transaction: float = 10.0
    """A transaction that is open longer is a problem; most end within a second."""
    max_groups: int = 10_000

    def hold_seconds(self, interval: float) -> float:
        return self.hold + 3 * interval

    def discovery_seconds(self, interval: float) -> float:
        return min(self.discovery, 20 * interval)

    def compaction_seconds(self, interval: float) -> float:
        return min(self.compaction, 50 * interval)


LIMITS = KafkaLimits()
