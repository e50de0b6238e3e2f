"""What a queue's arguments and its policy say: where its dead letters go, and what it keeps."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from telemetron_collectors.rabbitmq.rows import QueueRow, table


class Settings(NamedTuple):
    """The settings of one queue; None: it has no such setting."""

    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    message_ttl_seconds: float | None = None
    max_length: int | None = None
    max_priority: int | None = None

    @property
    def drops(self) -> bool:
        """Whether messages may leave it although nobody took them."""
        return self.max_length is not None or self.message_ttl_seconds is not None


def of(row: QueueRow, policies: Mapping[str, Mapping[str, Any]] = {}) -> Settings:
    """Return the settings of a queue; an argument has precedence over its policy.

    `policies` has the definitions by name: a list of queues names only each one's policy.
    """
    policy = table(row.effective_policy_definition) or policies.get(row.policy or "", {})
    arguments = table(row.arguments)

    def setting(name: str, type: type) -> Any:
        value = arguments.get(f"x-{name}", policy.get(name))
        return value if isinstance(value, type) else None

    ttl = setting("message-ttl", int)
    length = setting("max-length", int)
    return Settings(
        setting("dead-letter-exchange", str),
        setting("dead-letter-routing-key", str),
        None if ttl is None else ttl / 1000,
        setting("max-length-bytes", int) if length is None else length,
        setting("max-priority", int),
    )
