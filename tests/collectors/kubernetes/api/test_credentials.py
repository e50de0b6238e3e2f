"""Credentials: a service account's, a kubeconfig's, a plugin's."""

import asyncio
import json
import os
import ssl
import sys

import pytest
import yaml

from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron.testing import RecordingOutput
from telemetron_collectors.kubernetes import KubernetesConfig, collector
from telemetron_collectors.kubernetes.api import credentials
from telemetron_collectors.kubernetes.api.connection import ApiConnection
from tests.collectors.kubernetes.apiserver import status
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


async def test_the_service_account_of_a_pod(account):
    found = await credentials.load("in-cluster", None, None, account=account)
    assert found.namespace == "mine"
    assert found.configuration.host == "https://127.0.0.1:6443"
    assert found.configuration.api_key == {"BearerToken": "Bearer first"}
    (account / "token").write_text("second")
    found = await credentials.load("in-cluster", None, None, account=account)
    assert found.configuration.api_key == {"BearerToken": "Bearer second"}


async def test_a_ca_that_is_none(account):
    (account / "ca.crt").write_text("none")
    connection = client(lambda: credentials.load("in-cluster", None, None, account=account))
    with pytest.raises(TroubleError, match="cannot read the CA or the client certificate"):
        await connection.connect()
    await connection.close()


@pytest.mark.parametrize("missing", ["token", "ca.crt", "namespace"])
async def test_a_service_account_that_is_not_whole(account, missing):
    (account / missing).unlink()
    with pytest.raises(TroubleError, match="InvalidConfig"):
        await credentials.load("in-cluster", None, None, account=account)


async def test_outside_a_cluster(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    output = RecordingOutput()
    config = KubernetesConfig()
    run = asyncio.ensure_future(collector.run(config, output))
    call = await output.called("trouble")
    assert call[1:3] == ("", "InvalidConfig")
    assert "not in a cluster" in call[3]
    run.cancel()
    await asyncio.wait([run])


async def test_the_kubeconfig_that_is_named_by_the_environment(tmp_path, monkeypatch):
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


async def test_a_credential_plugin(tmp_path):
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "told"},
    }
    file = plugin(tmp_path, f"print({json.dumps(answer)!r})")
    found = await credentials.load("kubeconfig", file, None)
    assert found.configuration.api_key == {"BearerToken": "Bearer told"}


async def test_a_plugin_that_fails_tells_no_secret(tmp_path):
    file = plugin(tmp_path, "raise SystemExit('SECRET')")
    with pytest.raises(TroubleError) as caught:
        await credentials.load("kubeconfig", file, None)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_plugin_that_hangs(tmp_path):
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    file = plugin(tmp_path, code)
    with pytest.raises(TroubleError, match="credential plugin timed out"):
        await credentials.load("kubeconfig", file, None, plugin_seconds=1.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


class Ahead(Clock):
    """A clock that can be moved on."""

    seconds = 0.0

    def monotonic(self):
        return super().monotonic() + self.seconds


def client(load, clock=None, **options):
    return ApiConnection(load, clock or Clock(), lambda scope, trouble: None, **options)


async def test_a_token_is_read_again_while_it_is_good(api):
    tokens = iter(["one", "two", "three"])

    async def load():
        text = yaml.safe_load(kubeconfig(api.url))
        found = credentials.Credentials(credentials.Configuration(), text["current-context"])
        found.configuration.host = api.url
        found.configuration.api_key = {"BearerToken": f"Bearer {next(tokens)}"}
        return found

    connection = client(load, renew_seconds=0)
    assert await connection.connect() == "test"
    await opened_list(connection)
    await opened_list(connection)
    assert [headers["Authorization"] for headers in api.headers] == ["Bearer two", "Bearer three"]
    await connection.close()


async def opened_list(connection):
    await connection.get("s", "/api/v1/pods", {}, verb="list", resource="pods", accept="x")


async def test_client_certificates_may_be_rotated(api, monkeypatch):
    """Where they are refused a new client reads them anew; the old one ends when it is unused."""

    async def load():
        found = credentials.Credentials(credentials.Configuration(), "default")
        found.configuration.host = api.url
        found.configuration.cert_file = str(TLS / "cert.pem")
        found.configuration.key_file = str(TLS / "key.pem")
        return found

    monkeypatch.setattr(
        ssl.SSLContext, "load_cert_chain", lambda self, *names, **more: loads.append(names)
    )
    loads = []
    clock = Ahead()
    connection = client(load, clock)
    await connection.connect()
    api.faults["*"] = refuse
    for _ in range(3):
        with pytest.raises(TroubleError, match="Unauthorized"):
            await opened_list(connection)
        clock.seconds += 60
    assert len(loads) == 3
    await connection.close()


async def refuse(request):
    return status(401)


async def test_a_server_that_is_another(api):
    """Its certificate is not that of the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem", "hunter2")
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    async def load():
        found = credentials.Credentials(credentials.Configuration(), "default")
        found.configuration.host = f"https://127.0.0.1:{port}"
        return found

    connection = client(load)
    with pytest.raises(TroubleError, match="TLS failed"):
        await opened_list(connection)
    await connection.close()
    server.close()


BAD_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"", BAD_CHUNK, CUT, b"\x00" * 70_000])
async def test_a_server_that_speaks_no_http(answer):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def load():
        found = credentials.Credentials(credentials.Configuration(), "default")
        found.configuration.host = f"http://127.0.0.1:{port}"
        return found

    connection = client(load)
    with pytest.raises(TroubleError, match="Unreachable"):
        await opened_list(connection)
    assert not connection.is_reachable
    await connection.close()
    server.close()
