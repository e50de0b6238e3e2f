"""The inbox: the events that Telemetron's webhook delivers."""

import json
from typing import NamedTuple

from aiohttp import web

from tests.real.incidents.service import Object

SEVERITIES = ("critical", "warning")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Told(NamedTuple):
    """One event: `fired` or `resolved`, and the finding."""

    kind: str
    finding: Object

    @property
    def key(self) -> str:
        """The finding's key."""
        return str(self.finding["key"])


class Inbox:
    """A receiver that accepts everything."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        """End the server."""
        if self._runner:
            await self._runner.cleanup()

    def webhook(self) -> Object:
        """Return the configuration of the webhook that fills it, with alarms only."""
        about = {"name": "inbox", "url": self.url, "secret": SECRET}
        return {**about, "severities": list(SEVERITIES)}

    @property
    def open(self) -> dict[str, Object]:
        """The findings that fired and were not resolved."""
        found: dict[str, Object] = {}
        for one in self.told:
            if one.kind == "fired":
                found[one.key] = one.finding
            else:
                found.pop(one.key, None)
        return found

    async def _take(self, request: web.Request) -> web.Response:
        event = json.loads(await request.read())
        kind = event["type"].rpartition(".")[2]
        if kind in ("fired", "resolved"):
            self.told.append(Told(kind, event["data"]["finding"]))
        return web.Response(status=204)
