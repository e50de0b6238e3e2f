"""The fault proxy itself: what the other tests lean on."""

import socket

import pytest

from tests.real.toxiproxy import Toxiproxy


def test_a_proxy_passes_freezes_refuses_and_heals(toxiproxy: Toxiproxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = toxiproxy.proxy(f"127.0.0.1:{server.getsockname()[1]}")
        assert _greeted(server, proxy.port)
        proxy.toxic("timeout", timeout=0)
        with pytest.raises(TimeoutError):
            _greeted(server, proxy.port)
        proxy.heal()
        assert _greeted(server, proxy.port)
        proxy.down()
        with pytest.raises(ConnectionRefusedError):
            _greeted(server, proxy.port)
        proxy.heal()
        assert _greeted(server, proxy.port)


def _greeted(server: socket.socket, port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"hello")
            return client.recv(5) == b"hello"
