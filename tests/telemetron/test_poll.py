import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from telemetron.poll import TroubleError, poll
from telemetron.testing import FakeClock, RecordingOutput


class HastyClock(FakeClock):
    """Nobody waits for it: it says how long was slept, and time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, delay: float) -> None:
        self.slept.append(delay)
        self.advance(delay)
        await asyncio.sleep(0)


class Outside:
    """What is polled: does one thing after another, and the last of them for ever."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.output = RecordingOutput(HastyClock())
        self.asked = 0
        self.done = asyncio.Event()

    async def once(self) -> None:
        self.asked += 1
        if self.asked > len(self.steps):
            self.done.set()
            await asyncio.Event().wait()
        step = self.steps[self.asked - 1]
        if isinstance(step, BaseException):
            raise step
        if step == "hang":
            await asyncio.Event().wait()
        self.output.confirm()

    @property
    def slept(self) -> list[float]:
        assert isinstance(self.output.clock, HastyClock)
        return self.output.clock.slept

    @asynccontextmanager
    async def polled(self, **options: Any) -> AsyncIterator["asyncio.Task[None]"]:
        """Until all steps are done."""
        options = {"interval_seconds": 7.0, **options}
        task = asyncio.ensure_future(poll(self.output, self.once, **options))
        done = asyncio.ensure_future(self.done.wait())
        await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        try:
            yield task
        finally:
            done.cancel()
            task.cancel()
            await asyncio.wait({task, done})


OK = "ok"


async def test_it_polls_every_interval() -> None:
    outside = Outside(OK, OK, OK)
    async with outside.polled():
        assert outside.slept == [7.0] * 3
        assert outside.output.calls == [("confirm", "", None, "")] * 3


async def test_trouble_is_reported_and_retried_with_backoff() -> None:
    trouble = TroubleError("Unauthorized", "the key is not taken", scope="a")
    outside = Outside(*[trouble] * 4, OK, trouble)
    async with outside.polled():
        reported = ("trouble", "a", "Unauthorized", "the key is not taken")
        assert outside.output.calls == [*[reported] * 4, ("confirm", "", None, ""), reported]
        for number, delay in enumerate(outside.slept[:4]):
            assert 0.125 * 2**number <= delay <= 0.375 * 2**number
        assert outside.slept[4] == 7.0
        assert outside.slept[5] <= 0.375  # after progress it is short again


async def test_a_retry_after_is_obeyed() -> None:
    outside = Outside(TroubleError("RateLimited", "asks to wait", retry_after=42.0))
    async with outside.polled():
        assert outside.slept == [42.0]


async def test_errors_of_the_network_are_trouble() -> None:
    outside = Outside(ConnectionRefusedError("to http://user:secret@host"), TimeoutError())
    async with outside.polled():
        assert [call[2:] for call in outside.output.calls] == [
            ("Unreachable", "ConnectionRefusedError"),
            ("Timeout", "no answer within 10 s"),
        ]


async def test_trouble_and_errors_are_reported_in_the_scope() -> None:
    """Else a scope would stay in trouble that nobody ever confirms."""
    trouble = [TroubleError("BadAnswer", "a"), TroubleError("BadAnswer", "b", scope="its own")]
    outside = Outside("hang", OSError(), *trouble)
    async with outside.polled(timeout_seconds=0.05, scope="mine"):
        scopes = [call[1] for call in outside.output.calls]
        assert scopes == ["mine", "mine", "mine", "its own"]


async def test_a_poll_that_hangs_times_out() -> None:
    outside = Outside("hang", OK)
    async with outside.polled(timeout_seconds=0.05):
        assert outside.output.calls == [
            ("trouble", "", "Timeout", "no answer within 0.05 s"),
            ("confirm", "", None, ""),
        ]


@pytest.mark.parametrize("bug", [ValueError("bug"), asyncio.CancelledError(), KeyError("x")])
async def test_other_exceptions_are_raised(bug: BaseException) -> None:
    outside = Outside(OK, bug)
    async with outside.polled() as task:
        assert task.done()
        with pytest.raises(type(bug)):
            await task
        assert outside.output.calls == [("confirm", "", None, "")]


@pytest.mark.parametrize("step", ["hang", OK])
async def test_it_ends_when_it_is_cancelled(step: str) -> None:
    output = RecordingOutput()

    async def once() -> None:
        if step == "hang":
            await asyncio.Event().wait()

    task = asyncio.ensure_future(poll(output, once, interval_seconds=7.0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    assert output.calls == []


def test_the_text_of_a_trouble_error() -> None:
    assert str(TroubleError("Timeout", "no answer")) == "Timeout: no answer"
