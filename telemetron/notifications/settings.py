"""The keys `alertmanager` and `webhooks` of the configuration."""

import binascii
import ssl
from base64 import b64decode
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from telemetron.collector import Config
from telemetron.secret import Secret

MAX_URLS = 16
MAX_WEBHOOKS = 32
SECRET_PREFIX = "whsec_"  # noqa: S105  (it is public)
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64

BaseUrl = Annotated[
    str,
    Meta(
        description="an http:// or https:// URL without user, password, query and fragment",
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
    ),
]
Url = Annotated[
    str,
    Meta(
        description="an http:// or https:// URL without user, password and fragment",
        pattern=r"^https?://[^\s/@?#]+([/?][^\s#]*)?$",
    ),
]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping in the file."""


class ClientTls(Table, frozen=True):
    """TLS to a server; `{}` trusts the system's certificates."""

    cafile: Annotated[
        str | None, Meta(description="File of the trusted certificates, PEM; null: the system's.")
    ] = None
    certfile: Annotated[
        str | None, Meta(description="File of the client certificate chain, PEM; null: none.")
    ] = None
    keyfile: Annotated[
        str | None, Meta(description="File of its private key, PEM; null: in `certfile`.")
    ] = None
    keyfile_password: Annotated[Secret | None, Meta(description="Password of the private key.")] = (
        None
    )

    def context(self) -> ssl.SSLContext:
        """Return the context for connections. It reads files; raises OSError."""
        context = ssl.create_default_context(cafile=self.cafile)
        if self.certfile:
            # Without a password OpenSSL would prompt for one.
            password = self.keyfile_password.value if self.keyfile_password else ""
            context.load_cert_chain(self.certfile, self.keyfile, password)
        return context


class AlertmanagerSettings(Table, frozen=True):
    """The Alertmanagers that receive the findings."""

    urls: Annotated[
        list[BaseUrl],
        Meta(
            description="Base URLs of all Alertmanagers of a cluster, without a load balancer.",
            min_length=1,
            max_length=MAX_URLS,
        ),
    ]
    username: Annotated[str | None, Meta(description="User of basic authentication.")] = None
    password: Annotated[Secret | None, Meta(description="Its password.")] = None
    token: Annotated[Secret | None, Meta(description="Bearer token.")] = None
    tls: Annotated[ClientTls, Meta(description="TLS to https:// URLs.")] = ClientTls()

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.username is not None and self.token is not None:
            raise ValueError("keep one of username and token")


class WebhookSettings(Table, frozen=True):
    """One webhook: where its events go, and which."""

    name: Annotated[
        str,
        Meta(description="Its name: 1 to 63 of a-z, 0-9 and -", pattern=r"^[a-z0-9-]{1,63}$"),
    ]
    url: Annotated[Url, Meta(description="an http:// or https:// URL without user and password")]
    secret: Annotated[
        Secret, Meta(description="Key of the signatures: `whsec_` and base64 of 24 to 64 bytes.")
    ]
    rules: Annotated[list[str], Meta(description="Only findings of these rules; empty: all.")] = []
    severities: Annotated[
        list[str],
        Meta(description="Only findings that reach one of these severities; empty: all."),
    ] = []
    sections: Annotated[
        list[str], Meta(description="Only findings, and changes, of these sections; empty: all.")
    ] = []
    changes: Annotated[bool, Meta(description="Send the changes of the state, too.")] = False

    def __repr__(self) -> str:  # some URLs are secrets
        return f"WebhookSettings(name={self.name!r})"


class NotificationSettings(Config, frozen=True):
    """All that a run of the notifications needs of the configuration."""

    system: str
    url: str
    """Base URL of this server, for links."""
    alertmanager: AlertmanagerSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = ()


class Trouble(NamedTuple):
    """A problem of the settings: the key, and the message."""

    path: tuple[str | int, ...]
    message: str


def secret_trouble(secret: Secret) -> str | None:
    """Return why a secret cannot sign; None if it can. The message does not contain it."""
    text = secret.value.removeprefix(SECRET_PREFIX)
    try:
        size = len(b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if MIN_SECRET_BYTES <= size <= MAX_SECRET_BYTES:
        return None
    return (
        f"expected {SECRET_PREFIX} and the base64 of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
        f" bytes; make one: echo {SECRET_PREFIX}$(openssl rand -base64 32)"
    )
