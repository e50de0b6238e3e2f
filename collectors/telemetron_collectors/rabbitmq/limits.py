"""What bounds the collector: times, sizes, and the broker's effort."""

from typing import NamedTuple

from telemetron_collectors.rabbitmq.config import RabbitmqConfig


class RabbitmqLimits(NamedTuple):
    """Limits of one source; the times are in seconds."""

    timeout_seconds: float = 10.0
    max_bytes: int = 64 * 1024 * 1024
    max_queues: int = 2_000
    """Queues shown; the deepest are kept."""
    nodes_seconds: float = 10.0
    """Between two looks at the nodes and their alarms."""
    list_seconds: float = 60.0
    """Between two lists of queues that are counted by metrics."""
    rest: float = 20.0
    """How many times longer than the broker works for a list it then has its rest."""

    def max_age_seconds(self, config: RabbitmqConfig) -> float:
        """Return how old a value may be: one slow and one failed poll are allowed for."""
        if config.named:
            return 3 * config.interval + 2 * self.timeout_seconds
        longest = max(config.interval, self.rest * self.timeout_seconds)
        return longest + 3 * self.timeout_seconds


LIMITS = RabbitmqLimits()
