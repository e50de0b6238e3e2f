"""The full demo's proxy."""

from pathlib import Path

import pytest

from telemetron.demo import models
from telemetron.demo.models import DemoProxy, NoProxyError, ask


def test_without_a_proxy_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(models.URL, raising=False)
    assert ask("Rivers carry soil.") is None


def test_a_proxy_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(NoProxyError, match="does not run here: No such file"):
        DemoProxy(str(tmp_path / "litellm"), tmp_path)
