"""The address that a source is asked at, as the document shows it: `host:port`, and no secret."""

from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def of_url(url: str) -> str | None:
    """`host:port` of a URL, with the scheme's port if it names none; null: it names no host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None
    return join(host, port) if host and port else None


def join(host: str, port: int) -> str:
    """`host:port`; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
