"""What a running Telemetron shows, and waiting until it shows what a test waits for."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from tests.conftest import Live

T = TypeVar("T")
State = dict[str, Any]
LOOK_SECONDS = 1.0


class View:
    """The document of one server, read over HTTP."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self._changed = asyncio.Event()
        live.app.service.store.watchers.append(lambda _: self._changed.set())

    async def state(self) -> State:
        """As it is now."""
        answer = await self.live.client.get("/system/state")
        assert answer.status_code == 200
        state: State = answer.json()
        return state

    async def until(self, look: Callable[[State], T | None], seconds: float = 30) -> T:
        """What `look` finds in the state, once that is true; after `seconds` a failure with both.

        A look that finds a key missing or a None has not found.
        """
        end = asyncio.get_running_loop().time() + seconds
        while True:
            self._changed.clear()
            state = await self.state()
            try:
                found = look(state)
            except (LookupError, TypeError):
                found = None
            if found:
                return found
            left = end - asyncio.get_running_loop().time()
            if left <= 0 or any(row["status"] == "failing" for row in state["sources"]):
                raise AssertionError(f"not within {seconds:g} s: {_short(state)}")
            await _wait(self._changed, min(left, LOOK_SECONDS))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def source(state: State, name: str = "kubernetes") -> Any:
    """The row of the source."""
    return next(one for one in state["sources"] if one["key"] == name)


def workload(state: State, name: str, kind: str = "Deployment", source: str = "kubernetes") -> Any:
    """The workload, or None."""
    for one in state["workload"]:
        if (one["deployment_name"], one["kind"], one["source"]) == (name, kind, source):
            return one
    return None


def pods(
    state: State,
    name: str,
    kind: str = "Deployment",
    source: str = "kubernetes",
    **fields: Any,
) -> list[Any]:
    """The workload's pods that have these values."""
    found = workload(state, name, kind, source)
    return [one for one in found["pods"] if has(one, **fields)] if found else []


def agent(state: State, name: str) -> Any:
    """The agent, or None."""
    return next((one for one in state["agents"] if one["name"] == name), None)


def has(entity: Any, **fields: Any) -> bool:
    """Whether it has these values."""
    return all(entity[name] == value for name, value in fields.items())


def problems(row: Any) -> set[tuple[str, str]]:
    """(scope, reason) of each problem of a source."""
    return {(one["scope"], one["reason"]) for one in row["problems"]}


def names(entities: Iterable[Any], field: str = "pod_id") -> list[str]:
    """One field of each."""
    return [one[field] for one in entities]


def _short(state: State) -> str:
    shown = {name: state[name] for name in ("revision", "sources", "agents", "workload")}
    return str(shown)[:6_000]
