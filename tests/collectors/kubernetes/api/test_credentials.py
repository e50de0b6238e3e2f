"""Credentials: a service account's, a kubeconfig's, a plugin's."""

import asyncio
import json
import os
import sys

import pytest

from telemetron.poll import TroubleError
from telemetron.testing import RecordingOutput
from telemetron_collectors.kubernetes import KubernetesConfig, collector
from telemetron_collectors.kubernetes.api import credentials
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.conftest import TLS


@pytest.fixture
def account(tmp_path, monkeypatch):
    """A mounted service account."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_bytes((TLS / "cert.pem").read_bytes())
    (tmp_path / "namespace").write_text("mine\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    return tmp_path


async def test_service_account_is_loaded_with_its_current_token(account):
    found = await credentials.load("in-cluster", None, None, account=account)
    assert found.namespace == "mine"
    assert found.configuration.host == "https://127.0.0.1:6443"
    assert found.configuration.api_key == {"BearerToken": "Bearer first"}
    (account / "token").write_text("second")
    found = await credentials.load("in-cluster", None, None, account=account)
    assert found.configuration.api_key == {"BearerToken": "Bearer second"}


@pytest.mark.parametrize("missing", ["token", "ca.crt", "namespace"])
async def test_incomplete_service_account_is_an_error(account, missing):
    (account / missing).unlink()
    with pytest.raises(TroubleError, match="InvalidConfig"):
        await credentials.load("in-cluster", None, None, account=account)


async def test_collector_outside_a_cluster_reports_invalid_config(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    output = RecordingOutput()
    config = KubernetesConfig()
    run = asyncio.ensure_future(collector.run(config, output))
    call = await output.called("trouble")
    assert call[1:3] == ("", "InvalidConfig")
    assert "not in a cluster" in call[3]
    run.cancel()
    await asyncio.wait([run])


async def test_environment_names_the_kubeconfig(tmp_path, monkeypatch):
    file = tmp_path / "config"
    file.write_text(kubeconfig("http://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = await credentials.load("kubeconfig", None, None)
    assert (found.configuration.host, found.namespace) == ("http://127.0.0.1:1", "default")
    with pytest.raises(TroubleError, match="cannot load the kubeconfig: Invalid kube-config file"):
        await credentials.load("kubeconfig", None, "another")


def plugin(tmp_path, code):
    """A kubeconfig whose user is told by a credential plugin."""
    script = tmp_path / "plugin.py"
    script.write_text(code)
    run = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script)],
    }
    file = tmp_path / "config"
    file.write_text(kubeconfig("https://127.0.0.1:1", exec=run))
    return str(file)


async def test_credential_plugin_gives_the_token(tmp_path):
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "told"},
    }
    file = plugin(tmp_path, f"print({json.dumps(answer)!r})")
    found = await credentials.load("kubeconfig", file, None)
    assert found.configuration.api_key == {"BearerToken": "Bearer told"}


async def test_failed_plugin_leaks_no_secret(tmp_path):
    file = plugin(tmp_path, "raise SystemExit('SECRET')")
    with pytest.raises(TroubleError) as caught:
        await credentials.load("kubeconfig", file, None)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_hanging_plugin_is_killed(tmp_path):
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    file = plugin(tmp_path, code)
    with pytest.raises(TroubleError, match="credential plugin timed out"):
        await credentials.load("kubeconfig", file, None, plugin_seconds=1.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
