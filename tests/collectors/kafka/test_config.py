from typing import Any

import pytest

from telemetron.config.convert import Origin
from telemetron.config.settings import ConfigError, SourceSpec, configure, load
from telemetron_collectors.kafka import collector
from telemetron_collectors.kafka.config import KafkaConfig, QueueConfig, parse_address


def read(**options: Any) -> KafkaConfig:
    options = {"bootstrap_servers": ["b:9092"], **options}
    config = configure(SourceSpec("kafka", "kafka", options, Origin("test")), collector)
    assert isinstance(config, KafkaConfig)
    return config


def refused(**options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        read(**options)
    return str(error.value)


def test_the_defaults() -> None:
    config = read()
    assert (config.client_id, config.tls, config.sasl) == ("telemetron", None, None)
    (entry,) = config.entries
    assert (entry.topic, entry.max_tasks, entry.content_chars) == ("*", 0, 0)
    assert (config.interval, config.max_queues) == (1.0, 500)


def test_the_environment_is_enough() -> None:
    settings = load(None, {"TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": "a:1, b:2"})
    config = configure(settings.sources["kafka"], collector)
    assert isinstance(config, KafkaConfig)
    assert (config.bootstrap_servers, config.queues) == (["a:1", "b:2"], None)


def test_the_address_of_the_source() -> None:
    servers = ["a:1", "b", "[fd00::1]:9093"]
    assert collector.address(read(bootstrap_servers=servers)) == "a:1,b:9092,[fd00::1]:9093"


def test_the_interval_is_shorter_if_tasks_are_shown() -> None:
    assert read(queues=[{"topic": "t"}]).interval == 0.1
    assert read(queues=[{"topic": "t", "max_tasks": 0}]).interval == 1.0
    assert read(queues=[{"topic": "t"}], interval_seconds=5).interval == 5.0
    assert collector.max_age_seconds(read(interval_seconds=5)) == 25.0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bootstrap_servers": []}, "length >= 1"),
        ({"bootstrap_servers": ["a b"]}, "bootstrap_servers"),
        ({"bootstrap_servers": ["b:1", "broker:abc"]}, '"broker:abc" is not host:port'),
        ({"bootstrap_servers": [":9092"]}, "is not host:port"),
        ({"bootstrap_servers": ["b:99999"]}, "is not host:port"),
        ({"bootstrap_servers": ["[::1]:"]}, "is not host:port"),
        ({"queues": []}, "queues"),
        ({"queues": [{"topic": "t", "groups": []}]}, "groups"),
        ({"queues": [{"topic": "t", "on_no_commit": "never"}]}, "earliest"),
        ({"queues": [{"topic": "t", "content_chars": -1}]}, "content_chars"),
        ({"queues": [{"topic": "t", "fields": {"prio": "/x"}}]}, 'did you mean "priority"'),
        ({"client_id": "a b"}, "client_id"),
        ({"sasl": {"mechanism": "GSSAPI"}}, "OAUTHBEARER"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u"}}, "requires username and password"),
        ({"sasl": {"mechanism": "OAUTHBEARER"}}, "requires token_file"),
    ],
)
def test_invalid_values_are_refused(options: dict[str, Any], problem: str) -> None:
    assert problem in refused(**options)


def test_secrets_are_masked(tmp_path: Any) -> None:
    file = tmp_path / "password"
    file.write_text("hidden\n")
    sasl = {"mechanism": "SCRAM-SHA-512", "username": "u", "password_file": str(file)}
    config = read(sasl=sasl, tls={"keyfile_password": "hidden"})
    assert config.sasl is not None
    assert config.sasl.password is not None
    assert config.sasl.password.value == "hidden"
    assert "hidden" not in repr(config)


def test_topics_and_groups_by_pattern() -> None:
    entry = QueueConfig(topic="orders.*", groups=["a", "b-?"])
    assert entry.is_pattern
    assert entry.has_topic("orders.eu")
    assert not entry.has_topic("order")
    assert [entry.has_group(name) for name in ("a", "b-1", "b", "aa")] == [True, True, False, False]
    assert (entry.named_groups, entry.seeks_groups) == (["a"], True)
    assert not QueueConfig(topic="t", groups=["a"]).seeks_groups
    assert QueueConfig(topic="t").has_group("any")


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("h:1", "h", 1),
        ("h", "h", 9092),
        ("[::1]:5", "::1", 5),
        ("::1", "::1", 9092),
        ("[::1]", "::1", 9092),
        ("[fe80::1%eth0]:5", "fe80::1%eth0", 5),
    ],
)
def test_servers(server: str, host: str, port: int) -> None:
    assert parse_address(server) == (host, port)


@pytest.mark.parametrize(
    "server",
    [
        *("SASL_SSL://h:9093", "SASL_SSL://u:hunter2@h:9093", "http://h", "unix:/run/h"),
        *("u:hunter2@h", "u:hunter2@h:9092", "@h", "h:1:2", "h:0", "h:", ":1"),
    ],
)
def test_an_invalid_server_is_reported_without_its_password(server: str) -> None:
    with pytest.raises(ValueError, match="is not host:port") as caught:
        parse_address(server)
    assert "hunter2" not in str(caught.value)
