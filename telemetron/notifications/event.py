"""The events that webhooks receive: CloudEvents 1.0 in structured JSON."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from telemetron.document import Finding
from telemetron.notifications.tracker import Edge

MEDIA = "application/cloudevents+json"
PREFIX = "dev.telemetron"
CHANGE, GAP, TEST = f"{PREFIX}.change", f"{PREFIX}.gap", f"{PREFIX}.test"
ID_CHARACTERS = 32

encode = msgspec.json.Encoder(order="deterministic").encode


class Event(Struct, frozen=True):
    """One event. Its body is the same at each attempt to deliver it."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: msgspec.Raw

    def body(self) -> bytes:
        """Return the body of the request."""
        subject = {"subject": self.subject} if self.subject else {}
        return msgspec.json.encode(
            {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
            | subject
            | {"time": self.time, "datacontenttype": "application/json", "data": self.data}
        )


def make(
    system: str, type: str, subject: str, time: datetime, data: Any, *identity: object
) -> Event:
    """Return an event whose id follows from its type and `identity`: the same after a restart."""
    parts = [system, type, *map(str, identity)]
    digest = sha256("\0".join(parts).encode()).hexdigest()[:ID_CHARACTERS]
    source = f"/telemetron/{quote(system, safe='')}"
    return Event(f"msg_{digest}", type, source, subject, time, msgspec.Raw(encode(data)))


def of_edge(system: str, url: str, edge: Edge, now: datetime) -> Event:
    """Return the event of a finding's begin or end; `url` is the server's, for the link."""
    finding, at = edge.reported.finding, edge.reported.at
    data = {"system": system, "url": link(url, finding), "finding": _plain(finding)}
    return make(
        system, f"{PREFIX}.finding.{edge.kind}", finding.key, now, data, finding.key, at.isoformat()
    )


def gap(system: str, url: str, why: str, now: datetime, *identity: object) -> Event:
    """Return the event that stands for events which were lost."""
    data = {"system": system, "url": f"{url}/system/state", "reason": why}
    return make(system, GAP, "", now, data, *identity)


def link(url: str, finding: Finding) -> str:
    """Return the address of a finding."""
    return f"{url}/system/state/findings/{quote(finding.key, safe='')}"


def _plain(finding: Finding) -> Mapping[str, Any]:
    """Return the finding as the document shows it, without its own stamp."""
    plain: dict[str, Any] = msgspec.to_builtins(finding, builtin_types=(datetime,))
    del plain["updated_at"]
    return plain
