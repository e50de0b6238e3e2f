from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from telemetron_agent import identity


def test_outside_kubernetes(tmp_path: Path) -> None:
    assert identity.pod_name(str(tmp_path / "none")) is None
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


def test_a_pod_by_its_hosts_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    managed = "# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n"
    hosts.write_text(managed)
    assert identity.pod_name(str(hosts)) == socket.gethostname()
    assert identity.pod_name(str(hosts), lambda: "p" * 63) is None  # it may be truncated
    monkeypatch.setenv("POD_NAME", "p" * 70)
    assert identity.pod_name(str(hosts)) == "p" * 70


@pytest.mark.parametrize(
    "content",
    [b"127.0.0.1 localhost\n", b"# Kubernetes-managed hosts file (host network).\n", b"\xff", b""],
)
def test_other_hosts_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hosts").write_bytes(content)
    assert identity.pod_name(str(tmp_path / "hosts")) is None
    assert identity.pod_name(str(tmp_path / "none")) is None


def test_a_host_without_a_name() -> None:
    def refuse() -> str:
        raise OSError

    assert identity.host(refuse) == "unknown"


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert identity.version() is None
    main.__version__ = "1.2"  # type: ignore[attr-defined]
    assert identity.version() == "1.2"
    main.__version__ = (1, 2)  # type: ignore[attr-defined]
    assert identity.version() is None
    monkeypatch.setenv("POD_VERSION", "1.3")
    assert identity.version() == "1.3"


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


@pytest.mark.parametrize("token", ["secret\n", " secret\r\n", "secret"])
def test_a_token_of_the_environment_is_stripped(monkeypatch: pytest.MonkeyPatch, token) -> None:
    monkeypatch.setenv("TELEMETRON_TOKEN", token)
    assert identity.environment_token() == "secret"


def test_a_blank_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TELEMETRON_TOKEN", "POD_NAME", "POD_NAMESPACE", "POD_VERSION"):
        monkeypatch.setenv(name, " \n")
    assert identity.environment_token() is None
    assert identity.namespace("/nowhere") is None
    assert identity.pod_name("/nowhere") is None
