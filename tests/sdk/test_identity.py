from __future__ import annotations

from pathlib import Path

import pytest

from telemetron_agent import identity


def test_outside_kubernetes(tmp_path: Path) -> None:
    assert identity.pod_name() is None
    assert identity.namespace(str(tmp_path / "none")) is None
    assert identity.host()
    assert identity.environment_token() is None


def test_downward_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("mounted")
    monkeypatch.setenv("POD_NAME", "planner-0")
    assert identity.pod_name() == "planner-0"
    assert identity.namespace(str(tmp_path / "namespace")) == "mounted"
    monkeypatch.setenv("POD_NAMESPACE", "agents")
    assert identity.namespace(str(tmp_path / "namespace")) == "agents"


def test_a_token_file_may_be_rotated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("TELEMETRON_TOKEN_FILE", str(file))
    assert identity.environment_token() is None
    file.write_text("first\n")
    assert identity.environment_token() == "first"
    file.write_text("second\n")
    assert identity.environment_token() == "second"
    file.write_bytes(b"\xff\xfe")
    assert identity.environment_token() is None


def test_the_token_itself_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_TOKEN_FILE", "/nowhere")
    monkeypatch.setenv("TELEMETRON_TOKEN", "direct")
    assert identity.environment_token() == "direct"
