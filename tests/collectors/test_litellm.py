"""The configuration of a LiteLLM source."""

import json

import pytest

from telemetron.config.settings import ConfigError, configure, parse
from telemetron.secret import Secret
from telemetron_collectors.litellm import LitellmConfig, collector


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://user:secret@x"}, "url"),
        ({"url": "http://x", "interval_seconds": 0}, "interval_seconds"),
        ({"url": "http://x", "health_check_seconds": 1}, "health_check_seconds"),
        ({"url": "http://x", "key": "a", "key_file": "b"}, "both given"),
        ({}, "url"),
    ],
)
def test_a_configuration_that_is_wrong(config, said, tmp_path) -> None:
    file = tmp_path / "telemetron.yaml"
    file.write_text(json.dumps({"sources": {"litellm": config}}))
    _, specs, _ = parse(str(file), {})
    with pytest.raises(ConfigError) as error:
        configure(specs["litellm"], collector)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


def test_the_environment_alone_switches_it_on(tmp_path) -> None:
    file = str(tmp_path / "key")
    environ = {"TELEMETRON_LITELLM_URL": "http://x:4000", "TELEMETRON_LITELLM_KEY_FILE": file}
    _, specs, problems = parse(None, environ)
    assert problems == []
    config = configure(specs["litellm"], collector)
    assert config == LitellmConfig(url="http://x:4000", key_file=file)
    assert collector.max_age_seconds(config) == 90
    assert collector.address(config) == "x:4000"


def test_the_address_of_the_source_has_no_path() -> None:
    config = LitellmConfig(url="https://eu.example/llm", key=Secret("sk-1"))
    assert collector.address(config) == "eu.example:443"
