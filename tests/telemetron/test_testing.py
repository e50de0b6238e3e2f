"""The fake clock and the recording output."""

import asyncio
from datetime import UTC, datetime, timedelta

from telemetron.collector import Output, Put
from telemetron.document import Queue
from telemetron.testing import FakeClock, RecordingOutput

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def test_time_passes_only_by_advance() -> None:
    clock = FakeClock()
    assert (clock.now(), clock.monotonic()) == (NEW_YEAR, 0.0)
    clock.advance(1.5)
    assert (clock.now(), clock.monotonic()) == (NEW_YEAR + timedelta(seconds=1.5), 1.5)


def test_timers_see_the_time_they_are_due_at() -> None:
    clock, seen = FakeClock(), list[tuple[str, float]]()

    def tell(name: str) -> None:
        seen.append((name, clock.monotonic()))

    clock.call_later(2, tell, "second")
    clock.call_later(1, tell, "first")
    clock.call_later(1, tell, "first too")
    clock.call_later(1, tell, "never").cancel()
    clock.call_later(9, tell, "too late")
    clock.advance(2)
    assert seen == [("first", 1), ("first too", 1), ("second", 2)]


def test_a_timer_that_sets_timers() -> None:
    clock, seen = FakeClock(), list[float]()

    def tick() -> None:
        seen.append(clock.monotonic())
        clock.call_later(1, tick)

    tick()
    clock.advance(3)
    assert seen == [0, 1, 2, 3]


async def test_sleep_ends_when_time_advances() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    clock.advance(4.9)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(0.1)
    await asyncio.wait_for(sleeper, 30)


async def test_a_cancelled_sleep_has_no_effect() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    sleeper.cancel()
    await asyncio.wait([sleeper])
    clock.advance(5)
    assert sleeper.cancelled()


async def test_an_output_records_its_calls() -> None:
    recording = RecordingOutput(source="mine")
    output: Output = recording
    queue = Queue(name="q")
    output.put("queues", "g", "old", queue, scope="s")
    output.put("queues", "g", "other", queue)
    output.put("queues", "g", "gone", queue)
    output.remove("queues", "gone")
    output.remove("queues", "never known")
    await output.replace([Put("queues", "g", "new", queue)], scope="s")
    output.confirm("s", reason="Forbidden", message="no")
    output.trouble("s", "Timeout", "late")
    output.count("events", 2)
    assert output.source == "mine"
    assert recording.parts == {("queues", "other"): queue, ("queues", "new"): queue}
    assert recording.calls[0] == ("put", "queues", "g", "old", queue, "s")
    assert recording.calls[-4:] == [
        ("replace", [Put("queues", "g", "new", queue)], "s"),
        ("confirm", "s", "Forbidden", "no"),
        ("trouble", "s", "Timeout", "late"),
        ("count", "events", 2),
    ]


async def test_calls_can_be_awaited() -> None:
    output = RecordingOutput()
    output.confirm("a")
    second = asyncio.create_task(output.called("confirm", 2))
    await asyncio.sleep(0)
    output.trouble("b", "Timeout", "late")
    assert not second.done()
    output.confirm("c")
    assert await asyncio.wait_for(second, 5) == ("confirm", "c", None, "")
    assert await output.called("confirm") == ("confirm", "a", None, "")


def test_mounted_apps_are_recorded() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    recording = RecordingOutput()
    recording.mount("/agents/", app)
    assert recording.mounted == {"/agents/": app}
