"""Kafka: what waits in topics for consumer groups, for whom, since when, and whether it moves."""

from telemetron.address import join
from telemetron.collector import Collector, Output
from telemetron_collectors.kafka.config import KafkaConfig, parse_address
from telemetron_collectors.kafka.rounds import observe

HOLD_SECONDS = 10.0


def promise(config: KafkaConfig) -> float:
    """Two requests may time out and three intervals pass until what is shown is too old."""
    return HOLD_SECONDS + 3 * config.interval


def address(config: KafkaConfig) -> str:
    """The brokers to begin with."""
    return ",".join(join(*parse_address(server)) for server in config.bootstrap_servers)


async def run(config: KafkaConfig, output: Output) -> None:
    """Watch one cluster, until cancelled."""
    await observe(config, output, promise(config))


collector = Collector(
    name="kafka",
    description="Reads what waits in topics for consumer groups, as an observer.",
    config=KafkaConfig,
    sections=("queues",),
    max_age_seconds=promise,
    address=address,
    run=run,
)
