"""Notifications run as a source of their own, and a fault in them harms nothing else."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetron.config.settings import load
from telemetron.history.archive import Archive
from telemetron.notifications.webhook import Webhook
from telemetron.service.service import Service
from telemetron.testing import FakeClock
from tests.conftest import Live, Serving
from tests.telemetron.notifications.receiver import SECRET, receiving
from tests.telemetron.notifications.stage import SYSTEM, Stage, finding, webhook


def config(url: str) -> str:
    return f"webhooks: [{{name: ops, url: '{url}', secret: {SECRET}}}]"


async def row(live: Live, name: str = "notifications") -> Any:
    """Return the source once it is no longer starting."""
    query: dict[str, str] = {}
    while True:
        state = (await live.client.get("/system/state", params=query, timeout=40)).json()
        found = [one for one in state["sources"] if one["key"] == name]
        if not found or found[0]["status"] != "starting":
            return found[0] if found else None
        place = f"{state['epoch']}.{state['revision']}"
        query = {"since": place, "wait": "30s"}


async def test_without_a_receiver_there_is_no_such_source(live: Live) -> None:
    assert await row(live) is None


async def test_a_receiver_that_fails_is_a_problem_of_the_source(serving: Serving) -> None:
    async with receiving() as receiver:
        receiver.always = 500
        async with serving(config(receiver.url)) as live:
            await receiver.got(1)
            while not (shown := await row(live))["problems"]:
                pass
            metrics: httpx.Response = await live.client.get("/metrics")
    assert shown["status"] == "degraded"
    (problem,) = shown["problems"]
    assert (problem["scope"], problem["reason"]) == ("webhook ops", "BadAnswer")
    assert problem["message"] == "answered 500 Internal Server Error"
    assert 'event="webhook ops: failed",source="notifications"' in metrics.text


async def test_a_dead_receiver_is_a_finding_that_the_others_get(tmp_path: Path) -> None:
    clock = FakeClock()
    async with receiving() as dead, receiving() as receiver:
        dead.always = 500
        file = tmp_path / "t.yaml"
        hooks = [
            f"{{name: {name}, url: '{one.url}', secret: {SECRET}}}"
            for name, one in (("dead", dead), ("ops", receiver))
        ]
        file.write_text(f"webhooks: [{', '.join(hooks)}]")
        service = Service(await asyncio.to_thread(load, str(file), {}), clock)
        await service.start()
        try:
            await dead.got(1)
            async with asyncio.timeout(60):
                while not any("notifications" in subject for _, subject in receiver.edges):
                    clock.advance(5)
                    await asyncio.sleep(0.01)
        finally:
            await service.stop()
    assert ("fired", "SourceStale/sources/notifications") in receiver.edges


async def test_a_fault_while_it_watches_ends_only_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)
        monkeypatch.setattr(Webhook, "look", fail)
        stage.show(finding())
        (error,) = (await asyncio.gather(stage.task, return_exceptions=True))[0].exceptions
        assert isinstance(error, ZeroDivisionError)
        stage.end(finding())
        assert len(stage.store.snapshot.sections["findings"].rope) == 0


def put_note(file: Path, body: bytes) -> None:
    with closing(Archive(str(file), SYSTEM, "00", 1)) as archive:
        archive.put_note("notifications/webhook ops", body)


async def test_what_was_saved_by_another_version_is_left_out(
    tmp_path: Path, logged: list[str]
) -> None:
    file = tmp_path / "history.db"
    await asyncio.to_thread(put_note, file, b"[]")
    async with receiving() as receiver, Stage(webhook(receiver.url), file=file) as stage:
        stage.show(finding())
        assert [one.edge[0] for one in await receiver.took(2)] == ["gap", "fired"]
    assert any("cannot be read" in line for line in logged)
