"""The connection: retries, turns and new credentials."""

import asyncio
import ssl
import time

import pytest
import yaml
from aiohttp import web

from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kubernetes.api import credentials
from telemetron_collectors.kubernetes.api.connection import ApiConnection
from tests.collectors.kubernetes.apiserver import RESOURCES, failing, status
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.collectors.kubernetes.things import pod
from tests.conftest import TLS


async def test_server_that_is_down_at_first_is_found_later(api, observing, tmp_path):
    runner = await api.start()
    port = runner.addresses[0][1]
    await runner.cleanup()
    (tmp_path / "kubeconfig").write_text(kubeconfig(api.url))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: len(observed.problems) == len(RESOURCES))
        assert set(observed.problems.values()) == {"Unreachable"}
        assert observed.status == "starting"
        runner = await api.start(port)
        await observed.until_ok()
        assert observed.names == ["a"]
        await runner.cleanup()


async def test_unreachable_server_gets_one_request_at_a_time(api, observing):
    api.faults["*"] = failing(then=lambda: status(503))
    start = time.monotonic()
    async with observing() as observed:
        await api.asked(4)
        assert time.monotonic() - start > 0.08  # 25, 50 and 100 ms lie between, each ± 50 %
        assert observed.problems["pods"] == "Unreachable"
        assert "SECRET" not in observed.message("pods")
        api.faults.clear()
        await observed.until_ok()


async def test_one_scope_probes_a_server_that_went_down(api, observing):
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until_ok()
        asked = len(api.requests)
        api.faults["*"] = failing(then=lambda: status(503))
        api.close_watches()
        await observed.until(lambda: len(observed.problems) == len(RESOURCES))
        assert len(api.requests) - asked <= 3
        assert observed.names == ["a"]
        api.faults.clear()
        await observed.until_ok()


async def test_server_that_never_responds_times_out(api, observing):
    async def hang(request):
        await asyncio.sleep(60)

    api.faults["*"] = hang
    async with observing(bounds={"answer_seconds": 0.2}) as observed:
        await observed.until(lambda: observed.problems.get("jobs") == "Timeout")
        api.faults.clear()
        await observed.until_ok()


async def test_refused_token_is_loaded_again(api, observing, tmp_path):
    wanted = "t"

    async def refuse(request):
        return None if request.headers["Authorization"] == f"Bearer {wanted}" else status(401)

    api.faults["*"] = refuse
    async with observing() as observed:
        await observed.until_ok()
        wanted = "new"
        api.close_watches()
        await observed.until(lambda: "Unauthorized" in observed.problems.values())
        (tmp_path / "kubeconfig").write_text(kubeconfig(api.url, token="new"))
        await observed.until_ok()


async def test_retry_after_is_obeyed(api, observing):
    api.faults["pods"] = failing(lambda: status(429, **{"Retry-After": "1"}))
    api.put("pods", pod("a"))
    start = time.monotonic()
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("pods") == "RateLimited")
        await observed.until_ok()
        assert time.monotonic() - start > 0.95
        assert observed.names == ["a"]


async def test_server_errors_are_retried(api, observing):
    api.faults["*"] = failing(lambda: status(500), lambda: status(500), lambda: status(500))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        await observed.until_ok()
        assert observed.names == ["a"]


async def test_html_of_a_load_balancer_is_not_shown(api, observing):
    def html(code):
        return lambda: web.Response(text="<html>\nSECRET\n</html>", status=code)

    api.faults["*"] = failing(html(502))
    api.faults["pods"] = failing(html(200), html(502))
    api.put("pods", pod("a"))
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("pods") == "BadAnswer")
        assert "SECRET" not in observed.message("pods")
        await observed.until_ok()
        assert observed.names == ["a"]


async def test_reset_connection_is_retried(api, observing):
    async with observing() as observed:
        await observed.until_ok()

        async def reset(request):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b" ")
            request.transport.abort()
            return response

        api.faults["pods"] = reset
        api.close_watches()
        await observed.until(lambda: observed.problems.get("pods") == "Unreachable")
        api.faults.clear()
        api.put("pods", pod("a"))
        await observed.until(lambda: observed.names == ["a"])
        await observed.until_ok()


class Ahead(Clock):
    """A clock that can be moved on."""

    seconds = 0.0

    def monotonic(self):
        return super().monotonic() + self.seconds


def client(load, clock=None, **options):
    return ApiConnection(load, clock or Clock(), lambda scope, trouble: None, **options)


async def test_invalid_ca_is_an_error(tmp_path):
    (tmp_path / "ca.crt").write_text("none")

    async def load():
        found = credentials.Credentials(credentials.Configuration(), "default")
        found.configuration.ssl_ca_cert = str(tmp_path / "ca.crt")
        return found

    connection = client(load)
    with pytest.raises(TroubleError, match="cannot read the CA or the client certificate"):
        await connection.connect()
    await connection.close()


async def test_token_is_loaded_again_before_it_expires(api):
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
    await connection.get("s", "/api/v1/pods", {}, action="list pods", accept="x")


async def test_refused_client_certificate_is_loaded_again(api, monkeypatch):
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


async def test_certificate_of_another_ca_is_unreachable(api):
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
async def test_server_without_http_is_unreachable(answer):
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
