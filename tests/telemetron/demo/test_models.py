"""The provider of the full demo, and how agents call it with and without a proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetron.demo import models
from telemetron.demo.models import DemoProxy, NoProxyError, ask
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


def test_without_a_proxy_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(models.URL, raising=False)
    assert ask(TEXT) is None


def test_a_proxy_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(NoProxyError, match="does not run here: No such file"):
        DemoProxy(str(tmp_path / "litellm"), tmp_path)
