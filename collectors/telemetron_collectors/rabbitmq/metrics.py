"""The counts of a node's queues from its Prometheus plugin, in the text format."""

import re
from typing import NamedTuple

_LINE = re.compile(
    rb"^rabbitmq_detailed_queue_(messages_ready|messages_unacked|consumers)"
    rb'\{vhost="((?:[^"\\]|\\.)*)",queue="((?:[^"\\]|\\.)*)"[^}]*\} (\d+)(?:\.0+)?$',
    re.MULTILINE,
)
_NODE = re.compile(rb'^rabbitmq_identity_info\{rabbitmq_node="([^"]*)"', re.MULTILINE)
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {b"n": b"\n"}


class Counts(NamedTuple):
    """The counts of one queue; None: not known."""

    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None


FIELDS = {
    b"messages_ready": "ready",
    b"messages_unacked": "unacknowledged",
    b"consumers": "consumers",
}


class NodeCounts(NamedTuple):
    """What one node says of the queues that it leads."""

    node: str | None
    queues: dict[tuple[str, str], Counts]
    """By vhost and name."""


def parse(body: bytes) -> NodeCounts:
    """Read an answer; lines of other metrics are skipped. Run it in a thread."""
    found: dict[tuple[bytes, bytes], dict[str, int]] = {}
    for kind, vhost, queue, count in _LINE.findall(body):
        found.setdefault((vhost, queue), {})[FIELDS[kind]] = int(count)
    node = _NODE.search(body)
    return NodeCounts(
        node[1].decode(errors="replace") if node else None,
        {(_text(vhost), _text(queue)): Counts(**row) for (vhost, queue), row in found.items()},
    )


def _text(value: bytes) -> str:
    if b"\\" in value:
        value = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), value)
    return value.decode(errors="replace")
