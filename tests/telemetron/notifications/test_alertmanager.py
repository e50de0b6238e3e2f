"""Each Alertmanager gets all active alerts again and again, and the ends for a while."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from telemetron.notifications.settings import AlertmanagerSettings
from telemetron.secret import Secret
from tests.telemetron.notifications.receiver import CUT, HANG, Receiver, Request, receiving
from tests.telemetron.notifications.stage import BEGAN, Stage, finding

REPEAT = timedelta(seconds=30)


def alertmanager(*urls: str, **keys: Any) -> AlertmanagerSettings:
    return AlertmanagerSettings(urls=list(urls), **keys)


def names(request: Request) -> list[str]:
    return [one["annotations"]["finding"] for one in request.body]


def end(alert: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(alert["endsAt"])


async def reported(stage: Stage, receiver: Receiver) -> list[Request]:
    """Wait for the first report, and until the next one may follow."""
    await stage.output.called("confirm", 2)
    stage.clock.advance(1)
    return await receiver.got(1)


async def test_an_active_alert_is_sent_at_once_and_every_30_s() -> None:
    async with (
        receiving() as receiver,
        Stage(alertmanager=alertmanager(f"{receiver.url}/am/")) as stage,
    ):
        (request,) = await reported(stage, receiver)
        assert (request.path, request.body) == ("/am/api/v2/alerts", [])
        stage.show(finding(), finding("reviews", severity="info"))
        (alert,) = (await receiver.got(2))[1].body
        assert alert["labels"] == {
            "alertname": "NoConsumers",
            "severity": "critical",
            "system": "atlas",
            "section": "queues",
            "queue": "plans",
            "group": "planner",
        }
        assert alert["annotations"]["summary"] == "Nobody reads plans"
        assert alert["annotations"]["runbook_url"] == "docs/findings.md#noconsumers"
        assert datetime.fromisoformat(alert["startsAt"]) == BEGAN
        assert end(alert) == stage.clock.now() + 4 * REPEAT
        assert alert["generatorURL"].startswith("https://telemetron.example/system/state/findings/")
        for number in (3, 4):
            await stage.output.called("confirm", number)
            stage.clock.advance(30)
            (alert,) = (await receiver.got(number))[-1].body
            assert end(alert) == stage.clock.now() + 4 * REPEAT


async def test_an_end_is_sent_for_a_quarter_of_an_hour() -> None:
    async with receiving() as receiver, Stage(alertmanager=alertmanager(receiver.url)) as stage:
        await reported(stage, receiver)
        stage.show(finding())
        stage.end(finding())
        at = stage.clock.now()
        ends, number = [end(one) for one in (await receiver.got(2))[1].body], 2
        while not ends or receiver.requests[-1].body:
            await stage.output.called("confirm", number + 1)
            stage.clock.advance(30)
            number += 1
            ends += [end(alert) for alert in (await receiver.got(number))[-1].body]
        assert set(ends) == {at}
        assert timedelta(minutes=15) <= stage.clock.now() - at <= timedelta(minutes=16)


async def test_a_worse_severity_is_another_alert_and_a_better_one_is_none() -> None:
    async with receiving() as receiver, Stage(alertmanager=alertmanager(receiver.url)) as stage:
        await reported(stage, receiver)
        stage.show(finding(severity="warning"))
        stage.show(finding(severity="critical"))
        stage.show(finding(severity="info"))
        request = (await receiver.got(2))[1]
    active = {one["labels"]["severity"]: end(one) > stage.clock.now() for one in request.body}
    assert active == {"critical": True, "warning": False}


async def test_a_storm_is_one_request() -> None:
    async with receiving() as receiver, Stage(alertmanager=alertmanager(receiver.url)) as stage:
        await reported(stage, receiver)
        stage.show(*[finding(f"lost-{number}", rank=number + 1) for number in range(200)])
        request = (await receiver.got(2))[1]
    (alert,) = request.body  # these queues are not in the document, so nothing tells them apart
    assert alert["annotations"]["summary"] == "Nobody reads lost-0 (and 199 more)"


async def test_every_alertmanager_gets_the_alerts_by_itself(logged: list[str]) -> None:
    async with receiving() as dead, receiving() as receiver:
        dead.always = HANG
        urls = dead.url, receiver.url
        async with Stage(alertmanager=alertmanager(*urls)) as stage:
            await dead.got(1)
            await stage.output.called("confirm", 3)
            stage.clock.advance(1)
            stage.show(finding())
            assert names((await receiver.got(2))[1]) == [finding().key]


async def test_a_failure_is_said_once_and_sent_again(logged: list[str]) -> None:
    async with receiving() as receiver, Stage(alertmanager=alertmanager(receiver.url)) as stage:
        await reported(stage, receiver)
        receiver.answers.extend([500, CUT])
        stage.show(finding())
        for number in (1, 2):
            call = await stage.output.called("trouble", number)
            assert call[1] == f"alertmanager {receiver.url}"
            stage.clock.advance(50)
        assert names((await receiver.got(4))[3]) == [finding().key]
        await stage.output.called("confirm", 3)
    said = [line for line in logged if line.startswith("WARNING")]
    assert len(said) == 1


async def test_alerts_go_on_over_a_restart_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    async with receiving() as receiver:
        settings = alertmanager(receiver.url)
        async with Stage(alertmanager=settings, file=file) as stage:
            await reported(stage, receiver)
            stage.show(finding())
            await receiver.got(2)
            await stage.history.ask(lambda timeline: None)  # after what was saved before
        async with Stage(alertmanager=settings, file=file):
            (alert,) = (await receiver.got(3))[2].body
    assert alert["annotations"]["finding"] == finding().key


async def test_credentials_are_sent_and_not_shown(logged: list[str]) -> None:
    async with receiving() as receiver:
        receiver.always = 401
        basic = {"username": "telemetron", "password": Secret("hunter2")}
        for keys in (basic, {"token": Secret("a-token")}):
            async with Stage(alertmanager=alertmanager(receiver.url, **keys)) as stage:
                await stage.output.called("trouble")
                said = f"{stage.settings!r}{logged}{stage.output.calls}"
                assert "hunter2" not in said
                assert "a-token" not in said
        sent = [one.headers["authorization"] for one in receiver.requests]
    assert sent == ["Basic dGVsZW1ldHJvbjpodW50ZXIy", "Bearer a-token"]
