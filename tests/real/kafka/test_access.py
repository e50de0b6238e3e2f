"""Who may observe, and how: protocols, credentials, and the least permissions that suffice."""

import base64
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.real.kafka.broker import USERS, Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import Entity, cluster_source, reasons
from tests.real.kafka.truth import Truth, tasks

Queues = list[dict[str, Any]]


def allow(
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    user: str = "observer",
    permission: AclPermissionType = AclPermissionType.ALLOW,
) -> AclBinding:
    """An ACL for one name."""
    who = f"User:{user}"
    return AclBinding(kind, name, ResourcePatternType.LITERAL, who, "*", operation, permission)


def scram(user: str = "observer", password: str | None = None) -> dict[str, Any]:
    """Credentials."""
    mechanism = {"mechanism": "SCRAM-SHA-512", "username": user}
    return {**mechanism, "password": USERS[user] if password is None else password}


@pytest.fixture
def topic(truth: Truth, group: str) -> str:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 3))
    truth.commit(group, topic, {0: 1})
    return topic


MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [("PLAIN", None), ("TLS", None), *product(("SASL", "SECURE"), MECHANISMS)],
)
def test_protocols_and_mechanisms(
    kafka: Cluster,
    topic: str,
    group: str,
    observing: Observing,
    tmp_path: Path,
    protocol: str,
    mechanism: str | None,
) -> None:
    keys: dict[str, Any] = {}
    if protocol in ("TLS", "SECURE"):
        keys["tls"] = {"cafile": str(kafka.ca)}
    if mechanism:
        keys["sasl"] = {"mechanism": mechanism}
        if mechanism == "OAUTHBEARER":
            keys["sasl"]["token_file"] = str(_token(tmp_path / "token"))
        else:
            keys["sasl"] |= {"username": "admin", "password": USERS["admin"]}
    queues: Queues = [{"topic": topic, "groups": [group]}]
    with observing(kafka=cluster_source(kafka.servers(protocol), queues, **keys)) as observer:
        observer.await_queue(topic, group, lambda queue: len(queue["tasks"]) == 2)


def _token(file: Path) -> Path:
    """An unsecured JSON Web Token of the administrator, which the test's broker accepts."""
    now = int(time.time())
    claims = {"sub": "admin", "iat": now, "exp": now + 3600}
    parts = (_base64(part) for part in ({"alg": "none"}, claims))
    file.write_text(".".join(parts) + ".")
    return file


def _base64(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("listener", "keys", "reason"),
    [
        ("SASL", {"sasl": scram(password="wrong")}, "Unauthorized"),
        ("SASL", {"sasl": scram("observer") | {"username": "nobody"}}, "Unauthorized"),
        ("SASL", {"sasl": scram() | {"mechanism": "PLAIN", "password": "x"}}, "Unauthorized"),
        ("TLS", {"tls": {}}, "Unreachable"),
        ("PLAIN", {"tls": {}}, "Unreachable"),
        ("TLS", {}, "Unreachable"),
        ("SASL", {}, "Unreachable"),
    ],
    ids=[
        "wrong-password",
        "unknown-user",
        "wrong-plain-password",
        "untrusted-ca",
        "tls-to-plaintext",
        "plaintext-to-tls",
        "no-credentials",
    ],
)
def test_a_refused_connection_says_why(
    kafka: Cluster,
    topic: str,
    group: str,
    observing: Observing,
    listener: str,
    keys: dict[str, Any],
    reason: str,
) -> None:
    queues: Queues = [{"topic": topic, "groups": [group]}]
    config = cluster_source(kafka.servers(listener), queues, **keys)
    with observing(faults=1, kafka=config) as observer:
        said = observer.await_source(lambda source: source["problems"])
        assert reasons(said) == {reason}
        assert all("bootstrap" not in problem["message"] for problem in said["problems"])
        assert all(secret not in json.dumps(said) for secret in USERS.values())


def _observed(kafka: Cluster, topic: str, group: str) -> dict[str, Any]:
    queues: Queues = [{"topic": topic, "groups": [group]}]
    return cluster_source(kafka.servers("SASL"), queues, sasl=scram())


def _tasks(count: int) -> Any:
    def shows(queue: Entity) -> bool:
        return len(queue["tasks"]) == count

    return shows


def test_describe_suffices_for_counts_and_read_for_content(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    group_acl = allow(ResourceType.GROUP, group, AclOperation.DESCRIBE)
    describe = allow(ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    truth.allow(group_acl, describe)
    with observing(faults=1, kafka=_observed(kafka, topic, group)) as observer:
        queue = observer.await_queue(
            topic, group, lambda queue: queue["depth"] == 2 and "Forbidden" in reasons(queue)
        )
        assert (queue["tasks"], queue["lag"]) == ([], 2)
        truth.allow(allow(ResourceType.TOPIC, topic, AclOperation.READ))
        observer.await_queue(topic, group, _tasks(2))
        observer.await_shown(topic, group, depth=2, depth_exact=True, problems=[])


def test_read_without_describe_suffices_too(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    truth.allow(
        allow(ResourceType.GROUP, group, AclOperation.DESCRIBE),
        allow(ResourceType.TOPIC, topic, AclOperation.READ),
    )
    with observing(kafka=_observed(kafka, topic, group)) as observer:
        observer.await_queue(topic, group, _tasks(2))
        observer.await_ok()


def test_one_denied_topic_or_group_leaves_the_others(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    denied_topic, denied_group = truth.topic(), f"{group}-denied"
    truth.produce(denied_topic, tasks(0, 3))
    truth.commit(group, denied_topic, {0: 1})
    truth.commit(denied_group, topic, {0: 0})
    truth.allow(
        allow(ResourceType.GROUP, group, AclOperation.DESCRIBE),
        allow(ResourceType.TOPIC, topic, AclOperation.READ),
    )
    queues: Queues = [
        {"topic": topic, "groups": [group, denied_group]},
        {"topic": denied_topic, "groups": [group]},
    ]
    config = cluster_source(kafka.servers("SASL"), queues, sasl=scram())
    with observing(faults=2, kafka=config) as observer:
        observer.await_queue(topic, group, _tasks(2))
        queue = observer.await_queue(topic, denied_group, lambda it: "Forbidden" in reasons(it))
        assert queue["depth"] is None
        observer.await_reason("Forbidden")
        assert observer.queue(denied_topic, group).get("depth") is None
        truth.produce(topic, tasks(3, 1))
        observer.await_shown(topic, group, depth=3, depth_exact=True, problems=[])


def test_a_permission_taken_away_and_given_back(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    read = allow(ResourceType.TOPIC, topic, AclOperation.READ)
    truth.allow(allow(ResourceType.GROUP, group, AclOperation.DESCRIBE), read)
    with observing(faults=1, kafka=_observed(kafka, topic, group)) as observer:
        observer.await_queue(topic, group, _tasks(2))
        truth.forbid(
            AclBindingFilter(
                ResourceType.TOPIC,
                topic,
                ResourcePatternType.LITERAL,
                "User:observer",
                None,
                AclOperation.READ,
                AclPermissionType.ALLOW,
            )
        )
        observer.await_reason("Forbidden")
        truth.allow(read)
        truth.produce(topic, tasks(3, 1))
        observer.await_shown(topic, group, depth=3, depth_exact=True, problems=[])
        observer.await_ok()


def test_every_group_is_found_with_describe_on_the_cluster(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    truth.allow(
        allow(ResourceType.BROKER, "kafka-cluster", AclOperation.DESCRIBE),
        allow(ResourceType.GROUP, group, AclOperation.DESCRIBE),
        allow(ResourceType.TOPIC, topic, AclOperation.DESCRIBE),
    )
    queues: Queues = [{"topic": topic, "max_tasks": 0}]
    config = cluster_source(kafka.servers("SASL"), queues, sasl=scram())
    with observing(kafka=config) as observer:
        observer.await_shown(topic, group, depth=2, problems=[])
