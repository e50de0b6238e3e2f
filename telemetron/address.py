"""Addresses: as the document shows them (`host:port`, without secrets), and which are loopback."""

from ipaddress import ip_address
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def of_url(url: str) -> str | None:
    """Return `host:port` of a URL, with the scheme's default port; None if it has no host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None
    return join(host, port) if host and port else None


def join(host: str, port: int) -> str:
    """Return `host:port`; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether an address is loopback; of host names only `localhost` is."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
