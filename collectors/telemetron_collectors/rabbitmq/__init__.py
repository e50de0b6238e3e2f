"""Collector `rabbitmq`: the queues of a RabbitMQ cluster, their consumers and their movement."""

from telemetron.address import of_url
from telemetron.collector import Collector, Output
from telemetron_collectors.rabbitmq.client import connect
from telemetron_collectors.rabbitmq.config import RabbitmqConfig
from telemetron_collectors.rabbitmq.limits import LIMITS, RabbitmqLimits
from telemetron_collectors.rabbitmq.observer import Observer


async def run(config: RabbitmqConfig, output: Output, limits: RabbitmqLimits = LIMITS) -> None:
    """Observe the cluster until cancelled."""
    async with connect(config, limits) as client:
        await Observer(client, output, config, limits).run()


collector = Collector(
    name="rabbitmq",
    description="Queues of a RabbitMQ cluster: waiting messages, consumers and movement.",
    config=RabbitmqConfig,
    sections=("queues",),
    max_age_seconds=lambda config: LIMITS.max_age_seconds(config),
    address=lambda config: of_url(config.url),
    run=run,
)
