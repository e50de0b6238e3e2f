"""Toxiproxy: a real TCP proxy that adds latency, cuts, resets, freezes. Built once, with Go, into
the cache.
"""

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.real import gomodule
from tests.real.process import running, wait_until


def build() -> Path:
    """The server's binary; made where it is not there yet."""
    package = "github.com/Shopify/toxiproxy/v2/cmd/server"
    return gomodule.install("toxiproxy", package, "v2.5.0", "server")


class Proxy:
    """One listening port in front of one upstream; `toxic` makes it ill, `heal` well again."""

    def __init__(self, api: str, name: str, port: int, upstream: str) -> None:
        self.port = port
        self.upstream_port = int(upstream.rpartition(":")[2])
        self._api = f"{api}/proxies"
        self._at = f"{self._api}/{name}"
        listen = f"127.0.0.1:{port}"
        self._body = {"name": name, "listen": listen, "upstream": upstream, "enabled": True}
        _ask(self._api, self._body)

    def toxic(self, type: str, *, stream: str = "downstream", **attributes: Any) -> None:
        """`latency` (latency, jitter: ms), `timeout` (timeout: ms; 0 swallows all for ever),
        `bandwidth` (rate: KB/s), `limit_data` (bytes), `reset_peer` (timeout: ms), `slicer`."""
        body = {"type": type, "name": f"{type}-{stream}", "stream": stream}
        _ask(f"{self._at}/toxics", {**body, "attributes": attributes})

    def heal(self) -> None:
        """No toxics, and enabled; what was connected is cut.

        Made anew: to remove a toxic may hang for ever where a connection ends just then
        (toxiproxy's issue 558).
        """
        _ask(self._at, method="DELETE")
        _ask(self._api, self._body)

    def down(self) -> None:
        """Connections are closed, new ones refused."""
        _ask(self._at, {"enabled": False})


class Toxiproxy:
    """The server; `proxy` opens ports."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}"
        self._made = 0

    def proxy(self, upstream: str, port: int | None = None) -> Proxy:
        """`upstream` is HOST:PORT; `port` is a free one where none is given."""
        self._made += 1
        return Proxy(self._api, f"proxy-{self._made}", port or free_port(), upstream)


@contextmanager
def toxiproxy() -> Iterator[Toxiproxy]:
    """A server of its own, ended with the context."""
    port = free_port()
    with running([str(build()), "-host", "127.0.0.1", "-port", str(port)]):
        wait_until(lambda: _listens(port), seconds=60, what="toxiproxy")
        yield Toxiproxy(port)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ask(url: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        raw = answer.read()
    return json.loads(raw) if raw else None
