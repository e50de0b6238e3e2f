"""The configuration of a RabbitMQ source."""

import json

import pytest

from telemetron.config.settings import ConfigError, configure, parse
from telemetron.secret import Secret
from telemetron_collectors.rabbitmq import RabbitmqConfig, collector

GOOD = {"url": "http://x:15672", "username": "u", "password": "secret"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"url": "http://user:secret@x"}, "url"),
        ({"metrics_urls": ["x:15692"]}, "metrics_urls"),
        ({"interval_seconds": 0}, "interval_seconds"),
        ({"queues": []}, "queues"),
        ({"vhost": "/"}, "vhost"),
    ],
)
def test_a_configuration_that_is_wrong(keys, said, tmp_path) -> None:
    file = tmp_path / "telemetron.yaml"
    file.write_text(json.dumps({"sources": {"rabbitmq": {**GOOD, **keys}}}))
    _, specs, _ = parse(str(file), {})
    with pytest.raises(ConfigError) as error:
        configure(specs["rabbitmq"], collector)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "interval", "max_age"),
    [
        ({"queues": ["a", "b"]}, 1, 23),
        ({"queues": [f"q{number}" for number in range(51)]}, 30, 230),
        ({"queues": ["a*"]}, 30, 230),
        ({"metrics_urls": ("http://x:15692",)}, 5, 230),
        ({"interval_seconds": 300}, 300, 330),
    ],
)
def test_how_often_it_asks(keys, interval, max_age) -> None:
    its = RabbitmqConfig(**{**GOOD, "password": Secret("secret"), **keys})
    assert its.interval == interval
    assert collector.max_age_seconds(its) == max_age
    assert collector.address(its) == "x:15672"
    assert "secret" not in repr(its)
