"""A webhook that asks for changes is a cursor over places: none is lost, none comes twice."""

from math import inf
from pathlib import Path
from typing import Any

from telemetron.document import Queue
from telemetron.notifications import event as events
from telemetron.notifications.changes import Changes
from telemetron.notifications.pace import Pace
from tests.telemetron.notifications.receiver import Receiver, receiving
from tests.telemetron.notifications.stage import Stage, finding, webhook

AT_ONCE = Pace(least=0.0)


def put(stage: Stage, consumers: int) -> None:
    queue = Queue(name="plans", consumer_group="planner", consumers=consumers, source="kafka")
    stage.store.put(stage.kafka, "queues", "plans", "plans", queue)
    stage.store.flush()


def changes(receiver: Receiver) -> list[Any]:
    return [one.body for one in receiver.taken if one.edge[0] == "change"]


async def until(receiver: Receiver, consumers: int) -> None:
    """Wait until this number was sent."""
    number = len(receiver.taken)
    while not any(str(consumers) in str(one["data"]["changes"]) for one in changes(receiver)):
        number += 1
        await receiver.took(number)


async def test_changes_are_sent_one_after_another() -> None:
    hook = {"changes": True, "sections": ["queues"]}
    async with receiving() as receiver, Stage(webhook(receiver.url, **hook), pace=AT_ONCE) as stage:
        await receiver.took(1)
        for consumers in (71, 72):
            put(stage, consumers)
            await until(receiver, consumers)
        stage.show(finding())
        await receiver.took(len(receiver.taken) + 1)
    found = changes(receiver)
    places = [(one["data"]["from"], one["data"]["to"]) for one in found]
    assert [to for _, to in places][:-1] == [since for since, _ in places][1:]
    assert len({one["id"] for one in found}) == len(found)
    assert {one["section"] for event in found for one in event["data"]["changes"]} == {"queues"}


async def test_a_slow_receiver_gets_net_changes() -> None:
    hook = {"changes": True, "sections": ["queues"]}
    async with receiving() as receiver, Stage(webhook(receiver.url, **hook), pace=AT_ONCE) as stage:
        await receiver.took(1)
        receiver.answers.append(500)
        put(stage, 71)
        await stage.output.called("trouble")
        put(stage, 72)
        put(stage, 73)
        stage.clock.advance(10)
        await until(receiver, 73)
    assert "72" not in str([one["data"]["changes"] for one in changes(receiver)])


async def test_the_cursor_is_kept_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    hook = {"changes": True, "sections": ["queues"]}
    async with receiving() as receiver:
        receiver.always = 500
        async with Stage(webhook(receiver.url, **hook), file=file, pace=AT_ONCE) as stage:
            await stage.ready()
            put(stage, 71)
            await stage.output.called("trouble")
        receiver.always = 204
        async with Stage(webhook(receiver.url, **hook), file=file, pace=AT_ONCE) as stage:
            await stage.ready()
            put(stage, 72)
            await until(receiver, 72)
    found = changes(receiver)
    assert found[0]["id"] == receiver.requests[0].id
    assert found[1]["data"]["from"] == found[0]["data"]["to"]


async def test_nothing_is_asked_while_an_event_of_changes_waits() -> None:
    async with Stage() as stage:
        changes = Changes(stage.history, stage.clock, Pace(), "atlas", "", "1.1")
        waiting = events.make("atlas", events.CHANGE, "", stage.clock.now(), {}, 1)
        assert changes.seconds([]) == 0
        assert changes.seconds([waiting]) == inf
        changes.end()
