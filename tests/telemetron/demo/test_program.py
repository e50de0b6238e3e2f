"""Options of the demo that end it at once; tests/real/demo has whole runs."""

import socket

import pytest

from telemetron.demo import main, run


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(port=server.getsockname()[1]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Address already in use" in err
    assert len(err.splitlines()) == 1


def test_an_invalid_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "70000"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_unknown_agent(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--hang", "nobody"])
    assert ended.value.code == 2
    assert "researcher-1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["127.0.0.1:1", "[::1]:1"])
def test_a_kafka_that_cannot_be_reached(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["--kafka", option]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"Kafka at {option}: it cannot be reached, or does not accept connections without TLS"
        " and password\n"
    )
