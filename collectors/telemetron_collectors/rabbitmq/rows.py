"""The answers of the management plugin, as far as they are read.

RabbitMQ writes an empty table as `{}` or `[]`, and leaves out what it does not know.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class NodeRow(Struct):
    """A node of `/api/nodes`."""

    name: str
    running: bool = True
    mem_alarm: bool = False
    disk_free_alarm: bool = False
    partitions: list[Any] = []


class VhostRow(Struct):
    """A virtual host of `/api/vhosts`."""

    name: str


class PolicyRow(Struct):
    """A policy of `/api/policies/VHOST`."""

    name: str
    definition: Any = None


class BindingRow(Struct):
    """A binding of `/api/exchanges/VHOST/NAME/bindings/source`."""

    destination: str
    destination_type: str = "queue"
    routing_key: str = ""


class Stats(Struct):
    """Counters of a queue since it was declared, or since its node's start."""

    publish: int = 0
    ack: int = 0
    deliver_no_ack: int = 0
    get_no_ack: int = 0

    @property
    def consumed(self) -> int:
        """How many messages left the queue because somebody took them."""
        return self.ack + self.deliver_no_ack + self.get_no_ack


class QueueRow(Struct):
    """A queue of `/api/queues/VHOST` or `/api/queues/VHOST/NAME`."""

    name: str
    type: str | None = None
    state: str | None = None
    node: str | None = None
    arguments: Any = None
    policy: str | None = None
    effective_policy_definition: Any = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    consumers: int | None = None
    consumer_details: list[Any] = []
    head_message_timestamp: Any = None
    message_stats: Stats | UnsetType = UNSET


def table(value: Any) -> dict[str, Any]:
    """Return a table of RabbitMQ's."""
    return value if isinstance(value, dict) else {}
