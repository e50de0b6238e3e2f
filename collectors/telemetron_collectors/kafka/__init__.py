"""Kafka: the pending tasks of consumer groups in topics, and whether they are consumed."""

from telemetron.address import join
from telemetron.collector import Collector
from telemetron_collectors.kafka.config import KafkaConfig, parse_address
from telemetron_collectors.kafka.limits import LIMITS
from telemetron_collectors.kafka.rounds import run


def max_age_seconds(config: KafkaConfig) -> float:
    """Return how old a value may become: two requests may time out, and three rounds pass."""
    return LIMITS.hold_seconds(config.interval)


def address(config: KafkaConfig) -> str:
    """Return the configured brokers."""
    return ",".join(join(*parse_address(server)) for server in config.bootstrap_servers)


collector = Collector(
    name="kafka",
    description="Observes the pending tasks of consumer groups, without joining them.",
    config=KafkaConfig,
    sections=("queues",),
    max_age_seconds=max_age_seconds,
    address=address,
    run=run,
)
