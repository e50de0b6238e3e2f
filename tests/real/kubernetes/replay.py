"""More events than an API server on two cores can send: its own words, sent again and faster.

The lines are those with which the real server tells of each pod; only the pod's address is another
each time.
"""

import asyncio
import json
import re
from time import monotonic
from typing import Any, NamedTuple

from tests.real.controlplane import ControlPlane
from tests.real.faultproxy import FaultProxy

POD_WATCH = r"/pods\?.*watch=true"
TICK_SECONDS = 0.005
# What clusters give their pods begins above.
MAX_OCTET = 100


class Told(NamedTuple):
    """One event that was sent."""

    pod: str
    ip: str
    number: int
    at: float
    """Monotonic seconds."""


class Replay:
    """Events of the pods of one namespace, in turn; to be made in a thread."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        items = plane.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        self.names = [item["metadata"]["name"] for item in items]
        self.told: dict[str, Told] = {}
        """The last of each pod."""
        self._lines = [event(item) for item in items]
        self.count = 0
        """Events sent so far."""
        self._waiting: list[asyncio.Future[Told | None]] = []
        self._is_over = False

    async def sent(self) -> Told | None:
        """The next event that is sent; None: none will be."""
        if self._is_over:
            return None
        waiting: asyncio.Future[Told | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return await waiting

    async def send(self, proxy: FaultProxy, rate: int, seconds: float) -> None:
        """So many a second, by the clock."""
        try:
            await self._send(proxy, rate, seconds)
        finally:
            self._is_over = True
            self._say(None)

    async def _send(self, proxy: FaultProxy, rate: int, seconds: float) -> None:
        start = monotonic()
        sent = 0
        while (passed := monotonic() - start) < seconds:
            due = [self._next() for _ in range(int(passed * rate) - sent)]
            if due:
                sent += len(due)
                assert await proxy.send(POD_WATCH, b"\n".join(line for line, _ in due)) == 1
                self.told |= {told.pod: told for _, told in due}
                self._say(due[0][1])
            await asyncio.sleep(TICK_SECONDS)

    def _say(self, told: Told | None) -> None:
        while self._waiting:
            self._waiting.pop().set_result(told)

    def _next(self) -> tuple[bytes, Told]:
        number = self.count
        self.count += 1
        at = number % len(self._lines)
        ip = f"10.{(number >> 16) % MAX_OCTET}.{number >> 8 & 255}.{number & 255}"
        line = self._lines[at].replace(b"$IP", ip.encode())
        return line, Told(self.names[at], ip, number, monotonic())


def number_of(ip: str) -> int:
    """That of the event which gave the address; -1: none did."""
    _, first, second, third = map(int, ip.split("."))
    return -1 if first >= MAX_OCTET else (first << 16) + (second << 8) + third


def event(item: dict[str, Any]) -> bytes:
    """As a watch would tell it, `$IP` for its address."""
    body = json.dumps({"apiVersion": "v1", "kind": "Pod", **item}, separators=(",", ":"))
    body = re.sub(r'"(podIP|ip)":"10\.[\d.]+"', r'"\1":"$IP"', body)
    return f'{{"type":"MODIFIED","object":{body}}}'.encode()
