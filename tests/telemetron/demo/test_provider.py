"""The model provider of the full demo."""

from collections.abc import Iterator

import pytest

from telemetron.demo import models
from telemetron.demo.models import ask
from telemetron.demo.provider import FLAKY_EVERY, Provider

TEXT = "Rivers carry soil. Soil grows bread. Bread feeds the people who watch the rivers."


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server
        server.shutdown()


def call(provider: Provider, deployment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(models.URL, provider.base(deployment).removesuffix("/v1"))
    monkeypatch.setenv(models.KEY, "sk-x")


def test_a_model_summarises(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    call(provider, "steady", monkeypatch)
    said = ask(TEXT)
    assert said
    assert set(said.splitlines()) < {
        "Rivers carry soil.",
        "Soil grows bread.",
        "Bread feeds the people who watch the rivers.",
    }


def test_the_flaky_deployment_refuses_every_fourth_call(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(provider, "flaky", monkeypatch)
    said = [ask(TEXT) is None for _ in range(2 * FLAKY_EVERY)]
    assert said == ([False] * (FLAKY_EVERY - 1) + [True]) * 2
