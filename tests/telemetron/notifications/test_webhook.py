"""A webhook delivers every edge, in order, with one id, whatever its receiver does."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from telemetron.notifications.memory import HistoryMemory
from telemetron.notifications.pace import Pace
from telemetron.notifications.webhook import GONE
from tests.telemetron.notifications.receiver import CUT, HANG, TAKE_AND_CUT, receiving
from tests.telemetron.notifications.stage import BEGAN, Stage, finding, webhook

LATE, SOON = 40_000.0, 10.0
"""Longer than the longest wait, and longer than the first."""


async def test_a_finding_that_begins_and_ends_is_two_signed_events() -> None:
    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)  # the gap: without a file the past is unknown
        stage.show(finding())
        fired = (await receiver.took(2))[1]
        stage.end(finding())
        resolved = (await receiver.took(3))[2]
    assert fired.headers["content-type"] == "application/cloudevents+json"
    assert fired.id == fired.body["id"] != resolved.id
    assert (fired.body["specversion"], fired.body["source"]) == ("1.0", "/telemetron/atlas")
    assert fired.body["type"] == "dev.telemetron.finding.fired"
    assert resolved.body["type"] == "dev.telemetron.finding.resolved"
    key = finding().key
    assert fired.body["subject"] == resolved.body["subject"] == key
    assert fired.body["data"]["finding"]["summary"] == "Nobody reads plans"
    assert fired.body["data"]["url"].startswith(
        "https://telemetron.example/system/state/findings/NoConsumers%2F"
    )


@pytest.mark.parametrize("answer", [500, 404, 302, 429, CUT, TAKE_AND_CUT])
async def test_a_failure_is_tried_again_with_the_same_id_and_nothing_overtakes_it(
    answer: int | str,
) -> None:
    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)
        receiver.headers["location"] = f"{receiver.url}/elsewhere"
        receiver.answers.extend([answer, answer])
        stage.show(finding())
        await receiver.got(2)
        stage.end(finding())
        for number in (3, 4):
            await stage.output.called("trouble", number - 2)
            stage.clock.advance(LATE)
            await receiver.got(number)
        requests = (await receiver.got(5))[1:]
    assert [one.edge[0] for one in requests] == ["fired", "fired", "fired", "resolved"]
    assert len({one.id for one in requests[:3]}) == 1
    assert {one.path for one in requests} == {"/"}


async def test_a_receiver_that_hangs_is_given_up_in_time() -> None:
    async with receiving() as receiver:
        receiver.answers.append(HANG)
        async with Stage(webhook(receiver.url), pace=Pace(timeout=1.0)) as stage:
            call = await stage.output.called("trouble")
            assert call[1:] == ("webhook ops", "Timeout", "no answer within 1 s")
            stage.clock.advance(SOON)
            await receiver.took(1)


async def test_the_waits_grow_from_seconds_to_hours() -> None:
    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)
        receiver.always = 503
        stage.show(finding())
        await receiver.got(2)
        for number, wait in enumerate((5, 30, 300, 1_800, 7_200, 28_800, 28_800), 3):
            await stage.output.called("trouble", number - 2)
            stage.clock.advance(0.79 * wait)
            assert len(receiver.requests) == number - 1
            stage.clock.advance(0.42 * wait)
            await receiver.got(number)


async def test_a_new_event_shortens_a_long_wait() -> None:
    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)
        receiver.answers.extend([500] * 6)
        stage.show(finding())
        for number in range(6):
            await receiver.got(number + 2)
            await stage.output.called("trouble", number + 1)
            if number < 5:
                stage.clock.advance(LATE)
        stage.show(finding("reviews"))
        stage.clock.advance(301)
        await receiver.got(9)
    assert [one.edge[0] for one in receiver.taken] == ["gap", "fired", "fired"]


async def test_410_ends_the_webhook_and_says_so(logged: list[str]) -> None:
    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)
        receiver.answers.append(410)
        stage.show(finding())
        await receiver.got(2)
        while ("confirm", "webhook ops", "NotFound", GONE) not in stage.output.calls:
            await stage.output.called("confirm", len(stage.output.calls))
        stage.show(finding("reviews"))
        stage.end(finding())
        stage.clock.advance(LATE)
        assert len(receiver.requests) == 2
    assert sum(GONE in line for line in logged) == 1


async def test_a_full_queue_ends_with_one_gap() -> None:
    most, pace = 20, Pace(queue=20)
    async with receiving() as receiver, Stage(webhook(receiver.url), pace=pace) as stage:
        await receiver.took(1)
        receiver.answers.append(500)
        at = BEGAN
        for number in range(most):
            at += timedelta(seconds=1)
            stage.show(finding(since=at))
            stage.end(finding())
            if not number:
                await stage.output.called("trouble")
        stage.clock.advance(LATE)
        await receiver.took(most + 2)
        stage.show(finding("reviews"))
        taken = (await receiver.took(most + 3))[1:]
    kinds = [one.edge[0] for one in taken]
    assert kinds == ["fired", "resolved"] * (most // 2) + ["gap", "fired"]
    assert len({one.id for one in taken}) == len(taken)
    assert "dropped" in taken[-2].body["data"]["reason"]
    assert taken[-2].body["data"]["url"] == "https://telemetron.example/system/state"


async def test_only_wanted_findings_are_sent() -> None:
    wanted = {"rules": ["NoConsumers"], "severities": ["critical"], "sections": ["queues"]}
    async with receiving() as receiver, Stage(webhook(receiver.url, **wanted)) as stage:
        await receiver.took(1)
        stage.show(
            finding(rule="QueueStuck"),
            finding("kafka", rule="NoConsumers", section="sources"),
            finding("reviews", severity="warning"),
        )
        stage.show(finding("reviews"))  # it has become critical
        stage.show(finding("reviews", severity="info"))
        stage.end(finding("reviews"))
        await receiver.took(3)
    key = finding("reviews").key
    assert receiver.edges[1:] == [("fired", key), ("resolved", key)]


async def test_ids_stay_the_same_over_a_restart_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    async with receiving() as receiver:
        receiver.always = 500
        async with Stage(webhook(receiver.url), file=file) as stage:
            await stage.ready()
            stage.show(finding(), finding("reviews", rank=2))
            stage.end(finding("reviews"))
            first = (await receiver.got(1))[0]
        receiver.always = 204
        async with Stage(webhook(receiver.url), file=file) as stage:
            stage.show(finding(since=None))  # found again, and nothing says since when
            await receiver.took(3)
            stage.end(finding())
            await receiver.took(4)
    assert receiver.taken[0].id == first.id
    plans, reviews = finding().key, finding("reviews").key
    assert receiver.edges == [
        ("fired", plans),
        ("fired", reviews),
        ("resolved", reviews),
        ("resolved", plans),
    ]


async def test_without_a_file_open_findings_are_sent_again_with_the_same_id() -> None:
    async with receiving() as receiver:
        for _ in range(2):
            async with Stage(webhook(receiver.url)) as stage:
                before = len(receiver.taken)
                stage.show(finding())
                await receiver.took(before + 2)
    gap, fired, later_gap, again = receiver.taken
    assert (gap.edge[0], later_gap.edge[0]) == ("gap", "gap")
    assert fired.id == again.id
    assert gap.id != later_gap.id


async def test_a_finding_that_comes_back_has_another_id() -> None:
    async with receiving() as receiver, Stage(webhook(receiver.url)) as stage:
        await receiver.took(1)
        for _ in range(2):
            stage.show(finding())  # with the same `since`
            stage.end(finding())
        taken = (await receiver.took(5))[1:]
    assert [one.edge[0] for one in taken] == ["fired", "resolved"] * 2
    assert len({one.id for one in taken}) == 4


async def test_one_webhook_does_not_wait_for_another() -> None:
    async with receiving() as slow, receiving() as receiver:
        slow.always = HANG
        hooks = webhook(slow.url, name="slow"), webhook(receiver.url)
        async with Stage(*hooks) as stage:
            await slow.got(1)
            stage.show(finding())
            await receiver.took(2)


async def test_secrets_and_urls_are_in_no_log(logged: list[str]) -> None:
    async with receiving() as receiver:
        url = f"{receiver.url}/services/T0/very-secret"
        async with Stage(webhook(url)) as stage:
            receiver.always = 500
            stage.show(finding())
            await stage.output.called("trouble")
            said = f"{stage.settings!r} {logged} {stage.output.calls}"
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in said
    assert "very-secret" not in said
    assert "text of others" not in said


class SlowMemory(HistoryMemory):
    """A memory that takes its time; `saved` has what a killed process would have left."""

    saved = b""

    async def save(self, name: str, body: bytes) -> None:
        await asyncio.sleep(0.02)
        await super().save(name, body)
        self.saved = body


async def test_no_event_is_sent_before_it_is_saved(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    async with (
        receiving() as receiver,
        Stage(webhook(receiver.url), file=file, memory=SlowMemory) as stage,
    ):
        unsaved: list[str] = []
        receiver.watch = lambda request: (
            request.id.encode() in stage.memory.saved or unsaved.append(request.id)
        )
        await stage.ready()
        for number in range(10):
            stage.show(finding(f"topic-{number}"))
            await receiver.took(number + 1)
            await asyncio.sleep(0.01)  # until the delivery is being saved
    assert unsaved == []
