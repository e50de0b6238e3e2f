"""Settings by arguments and policies, and the way of dead letters."""

import json
from typing import Any

import pytest

from telemetron_collectors.rabbitmq import settings
from telemetron_collectors.rabbitmq.rows import QueueRow
from tests.collectors.rabbitmq.bench import Bench
from tests.collectors.rabbitmq.scripted import Reply, ScriptedCluster, queue


def of(arguments: Any = None, policy: Any = None, **policies: Any) -> settings.Settings:
    row = QueueRow("q", arguments=arguments, policy="p", effective_policy_definition=policy)
    return settings.of(row, policies)


def test_settings() -> None:
    assert of([], []) == settings.Settings()
    assert of({"x-message-ttl": 1500}).message_ttl_seconds == 1.5
    assert of({"x-max-length": 3}, {"max-length": 9}).max_length == 3
    assert of({}, {"dead-letter-exchange": ""}).dead_letter_exchange == ""
    assert of({}, None, p={"max-length-bytes": 7}).max_length == 7
    assert of({"x-max-priority": "5", "x-dead-letter-exchange": 7}) == settings.Settings()


@pytest.mark.parametrize(
    ("key", "targets"), [("k", ["one"]), (None, ["one", "two"]), ("other", ["one", "two"])]
)
async def test_dead_letters_by_an_exchange(
    cluster: ScriptedCluster, bench: Bench, key: str | None, targets: list[str]
) -> None:
    bindings = [
        {"destination": "one", "destination_type": "queue", "routing_key": "k"},
        {"destination": "two", "destination_type": "queue", "routing_key": "l"},
        {"destination": "x", "destination_type": "exchange", "routing_key": "k"},
    ]
    path = "/api/exchanges/%2F/dlx/bindings/source"
    cluster.replies[path] = Reply(body=json.dumps(bindings).encode())
    cluster.policies = [{"name": "p", "definition": {"dead-letter-exchange": "dlx"}}]
    arguments = {} if key is None else {"x-dead-letter-routing-key": key}
    work = queue("work", policy="p", arguments=arguments)
    cluster.vhosts["/"] = [work, queue("one"), queue("two"), queue("x")]
    bench.start(interval_seconds=0.1)
    await bench.until(lambda it: "one" in it.queues and it.queues["one"].dead_letters_of)
    found = [name for name, one in sorted(bench.queues.items()) if one.dead_letters_of == ["work"]]
    assert found == targets


async def test_an_exchange_that_does_not_exist(cluster: ScriptedCluster, bench: Bench) -> None:
    arguments = {"x-dead-letter-exchange": "gone"}
    cluster.vhosts["/"] = [queue("work", arguments=arguments), queue("other")]
    bench.start(interval_seconds=0.1)
    path = "/api/exchanges/%2F/gone/bindings/source"
    await bench.until(lambda it: path in cluster.calls and "work" in it.queues)
    assert bench.problems() == {}
