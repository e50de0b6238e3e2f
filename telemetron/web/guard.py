"""Access to the server: tokens, and on loopback the `Host` header (against DNS rebinding)."""

from telemetron.address import is_loopback
from telemetron.config.settings import AuthSettings, ServerSettings
from telemetron.http import HttpProblem, Scope

_LOCAL = {b"localhost", b"127.0.0.1", b"[::1]"}


class Guard:
    """Denies by default: `check` raises HttpProblem 401, 403 or 421."""

    def __init__(self, server: ServerSettings) -> None:
        auth = server.auth if isinstance(server.auth, AuthSettings) else AuthSettings()
        self._tokens = auth.tokens
        self._open = not self._tokens
        self._hosts = {*_LOCAL, server.host.encode()} if is_loopback(server.host) else None
        self._accepted: bytes | None = None

    def check(self, scope: Scope, role: str) -> None:
        """Check a request; each `role`, `read`, `write` or `metrics`, needs its own token.

        Without a metrics token, the read token opens the metrics: it shows more than they do.
        """
        self.check_host(scope)
        if not self._open:
            role = "read" if role == "metrics" and role not in self._tokens else role
            self._check_token(_header(scope, b"authorization"), role)

    def check_host(self, scope: Scope) -> None:
        """On loopback, accept only a `Host` that names this machine.

        HTTP/1.0 needs no `Host`, and HAProxy's checks send none; a browser always sends one.
        """
        if self._hosts is None:
            return
        host = _header(scope, b"host")
        if host == self._accepted:  # most requests have the same one
            return
        if not host and scope["http_version"] == "1.0":
            return
        name, _, port = host.lower().rpartition(b":")
        if not (host.lower() in self._hosts or (name in self._hosts and port.isdigit())):
            raise HttpProblem(421, "on loopback, the Host header must be localhost or 127.0.0.1")
        self._accepted = host

    def _check_token(self, authorization: bytes, role: str) -> None:
        scheme, _, presented = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not presented:
            raise _denied(401, f"send `Authorization: Bearer TOKEN` with the {role} token")
        roles = [one for one, token in self._tokens.items() if token.matches(presented.strip())]
        if role in roles:
            return
        if roles:
            raise _denied(403, f"this is the {roles[0]} token; send the {role} token")
        raise _denied(401, f"unknown token; send the {role} token")


def _header(scope: Scope, wanted: bytes) -> bytes:
    value: bytes
    for name, value in scope["headers"]:
        if name == wanted:
            return value
    return b""


def _denied(status: int, detail: str) -> HttpProblem:
    headers = {"www-authenticate": 'Bearer realm="telemetron"'} if status == 401 else {}
    return HttpProblem(status, detail, headers)
