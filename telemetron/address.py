"""The address of an observed system as the document shows it: `host:port`, without secrets."""

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
