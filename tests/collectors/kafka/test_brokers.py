"""Connections that fail: the cause in plain words, and no secret in it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from aiokafka import errors

from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import (
    BrokerConnection,
    TokenFile,
    cause,
    connection_settings,
)
from telemetron_collectors.kafka.protocol.messages import Address, metadata
from tests.collectors.kafka.conftest import config_of
from tests.collectors.kafka.scripted import Scripted, scripted
from tests.conftest import TLS

ADDRESS = Address("broker", 9092)


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


async def trouble_with(address: Address, **options: Any) -> TroubleError:
    link = BrokerConnection(
        address, await connection_settings(config_of(bootstrap_servers=["h"], **options)), Clock()
    )
    with pytest.raises(TroubleError) as trouble:
        await link.call(metadata(None))
    await link.close()
    return trouble.value


def sasl(mechanism: str = "PLAIN") -> dict[str, str]:
    return {"mechanism": mechanism, "username": "me", "password": "secret-word"}


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (TimeoutError(), "Timeout", "did not answer within 1 s"),
        (ConnectionRefusedError(), "Unreachable", "refuses the connection: closed port"),
        (OSError(113, "No route to host"), "Unreachable", "cannot be reached: No route to host"),
        (ssl.SSLError("x"), "Unreachable", "does not accept a TLS connection"),
        (errors.KafkaConnectionError(), "Unreachable", "hung up"),
        (errors.SaslAuthenticationFailed("x"), "Unauthorized", "did not accept the credentials"),
        (errors.UnsupportedSaslMechanismError(), "Unauthorized", "not offer this SASL mechanism"),
        (errors.IllegalSaslStateError(), "Unauthorized", "expects no SASL on this port"),
        (AssertionError(), "BadAnswer", "answered, but not with Kafka's protocol"),
        (KeyError("r"), "BadAnswer", "answered, but not with Kafka's protocol"),
    ],
)
def test_each_error_has_a_cause(error: Exception, reason: str, message: str) -> None:
    trouble = cause(error, ADDRESS, "hung up", 1.0)
    assert (trouble.reason, trouble.scope) == (reason, "")
    assert trouble.message.startswith("broker:9092 ")
    assert message in trouble.message


def test_scram_with_an_unknown_user_is_unauthorized() -> None:
    trouble = cause(KeyError("r"), ADDRESS, "hung up", 1.0, with_sasl=True)
    assert (trouble.reason, trouble.message) == (
        "Unauthorized",
        "broker:9092 did not accept the credentials",
    )


async def test_a_closed_port_is_retried_with_backoff() -> None:
    async with scripted() as gone:
        address = Address("127.0.0.1", gone.port)
    link = BrokerConnection(
        address, await connection_settings(config_of(bootstrap_servers=["h"])), Clock()
    )
    with pytest.raises(TroubleError, match="closed port"):
        await link.call(metadata(None))
    async with scripted() as other:
        link.address = Address("127.0.0.1", other.port)
        with pytest.raises(TroubleError, match="closed port"):
            await link.call(metadata(None))
        assert other.asked == []


async def test_each_failed_call_raises_its_own_error() -> None:
    async with scripted() as gone:
        address = Address("127.0.0.1", gone.port)
    link = BrokerConnection(
        address, await connection_settings(config_of(bootstrap_servers=["h"])), Clock()
    )
    errors = []
    for _ in range(3):
        with pytest.raises(TroubleError, match="closed port") as trouble:
            await link.call(metadata(None))
        errors.append(trouble.value)
    assert len(set(map(id, errors))) == 3


async def test_tls_to_a_plain_text_port_is_unreachable(broker: Scripted) -> None:
    trouble = await trouble_with(Address("127.0.0.1", broker.port), tls={})
    assert trouble.reason == "Unreachable"


@pytest.fixture
async def tls_address(broker: Scripted) -> AsyncIterator[Address]:
    """The broker's where it speaks TLS, with a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem", "hunter2")
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_an_untrusted_certificate_is_named(tls_address: Address) -> None:
    trouble = await trouble_with(tls_address, tls={})
    assert trouble.message.startswith(f"{tls_address} has an untrusted certificate: ")
    trusted = {"cafile": str(TLS / "cert.pem"), "check_hostname": False}
    config = config_of(bootstrap_servers=["h"], tls=trusted)
    link = BrokerConnection(tls_address, await connection_settings(config), Clock())
    assert (await link.call(metadata(None))).version == 10
    await link.close()


async def test_tls_files_are_read_again_for_every_connection(
    tls_address: Address, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(certifi.contents())
    config = config_of(bootstrap_servers=["h"], tls={"cafile": str(file), "check_hostname": False})
    made = await connection_settings(config)
    with pytest.raises(TroubleError, match="untrusted"):
        await BrokerConnection(tls_address, made, Clock()).call(metadata(None))
    file.write_bytes((TLS / "cert.pem").read_bytes())
    link = BrokerConnection(tls_address, made, Clock())
    assert (await link.call(metadata(None))).version == 10
    await link.close()
    file.unlink()
    with pytest.raises(TroubleError, match="cannot use a file") as trouble:
        await BrokerConnection(tls_address, made, Clock()).call(metadata(None))
    assert trouble.value.reason == "InvalidConfig"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_sasl_to_a_port_without_it_is_unauthorized(broker: Scripted, mechanism: str) -> None:
    address = Address("127.0.0.1", broker.port)
    trouble = await trouble_with(address, sasl=sasl(mechanism))
    assert (trouble.reason, trouble.message) == (
        "Unauthorized",
        f"{address} expects no SASL on this port",
    )
    assert "secret-word" not in str(trouble)


async def test_the_embedded_broker_accepts_plain(shared_broker: Any) -> None:
    config = config_of(bootstrap_servers=["h"], sasl=sasl())
    link = BrokerConnection(
        Address("127.0.0.1", shared_broker.port), await connection_settings(config), Clock()
    )
    assert (await link.call(metadata(None))).data
    await link.close()


@pytest.mark.parametrize(
    "tls",
    [{"cafile": "/not/there"}, {"certfile": "/not/there"}, {"certfile": str(TLS / "cert.pem")}],
)
async def test_unusable_tls_files_are_refused(tls: dict[str, str]) -> None:
    with pytest.raises(TroubleError) as trouble:
        await connection_settings(config_of(bootstrap_servers=["h"], tls=tls))
    assert trouble.value.reason == "InvalidConfig"


async def test_a_client_certificate_is_loaded() -> None:
    own = {"certfile": str(TLS / "cert.pem"), "keyfile": str(TLS / "key.pem")}
    own["keyfile_password"] = "hunter2"
    made = await connection_settings(config_of(bootstrap_servers=["h"], tls=own, sasl=sasl()))
    assert (made.protocol, made.sasl["sasl_plain_username"]) == ("SASL_SSL", "me")


async def test_a_token_is_read_again_for_every_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    config = config_of(
        bootstrap_servers=["h"], sasl={"mechanism": "OAUTHBEARER", "token_file": str(file)}
    )
    provider = (await connection_settings(config)).sasl["sasl_oauth_token_provider"]
    assert await provider.token() == "one"
    file.write_text("two\n")
    assert await provider.token() == "two"
    file.unlink()
    with pytest.raises(TroubleError, match="cannot read sasl"):
        await TokenFile(str(file)).token()


async def test_a_tls_file_may_be_repaired_later(
    broker: Scripted, watch: Any, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    async with watch(broker.address, {"topic": "t"}, tls={"cafile": str(file)}) as watched:
        trouble = await watched.output.called("trouble")
        assert trouble[2] == "InvalidConfig"
        file.write_bytes((TLS / "cert.pem").read_bytes())
        await watched.until(lambda: watched.troubles()[-1][2] == "Unreachable")


async def test_log_lines_and_output_contain_no_secret(
    broker: Scripted, watch: Any, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with watch(broker.address, {"topic": "t"}, sasl=sasl()) as watched:
        await watched.output.called("trouble", 3)
        (warning,) = [line for line in logged if line.startswith("WARNING telemetron_collectors")]
        assert "source kafka: Un" in warning
        assert not [record for record in caplog.records if record.name.startswith("aiokafka")]
        assert "secret-word" not in "".join(logged)
        assert "secret-word" not in repr(watched.output.calls)
