"""`telemetron mcp`: starts the MCP server, which the extra `mcp` brings."""

import sys
from collections.abc import Iterable
from importlib.util import find_spec

import click

from telemetron.cli import output
from telemetron.client import FetchError, base_url

MISSING = "the package mcp is not installed: pip install 'telemetron[mcp]'"


def serve_stdio(url: str, token: str | None) -> None:
    """Serve a client over standard input and output until it closes them."""
    _require(url)
    from telemetron.mcp.api import Api
    from telemetron.mcp.stdio import run

    run(Api(url), token)


def serve_http(url: str, address: str, hosts: Iterable[str]) -> None:
    """Serve clients over HTTP until SIGINT or SIGTERM."""
    host, port = _address(address)
    _require(url)
    from telemetron import log
    from telemetron.mcp.http import run
    from telemetron.web.server.server import StartError

    log.configure("info")
    try:
        sys.exit(run(url, host, port, hosts))
    except StartError as error:
        output.fail_to_start([str(error)], output.FAILED)


def _require(url: str) -> None:
    """Fail at once without a valid URL or the package, which takes a second to import."""
    try:
        base_url(url)
    except FetchError as error:
        output.fail([str(error)])
    if find_spec("mcp") is None:
        output.fail([MISSING])


def _address(text: str) -> tuple[str, int]:
    """Return the host and the port of `HOST:PORT`; the host of IPv6 is in brackets."""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdigit() and int(port) < 65_536
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not is_port:
        raise click.BadParameter(f"expected HOST:PORT, got {text}", param_hint="--http")
    return host, int(port)
