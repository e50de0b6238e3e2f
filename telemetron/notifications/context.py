"""The context of all receivers of one run."""

from typing import NamedTuple

import httpx

from telemetron.collector import Output
from telemetron.notifications.memory import Memory
from telemetron.notifications.pace import Pace
from telemetron.notifications.sight import Sight


class Context(NamedTuple):
    """What the receivers of one run share."""

    system: str
    """The id of this system."""
    url: str
    """The base URL of this server, for links."""
    output: Output
    sight: Sight
    memory: Memory
    pace: Pace
    http: httpx.AsyncClient
