"""An agent is dead by evidence alone. A clock that is moved by hand, and then the real server."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.heartbeats.beat import Beat
from telemetron_collectors.heartbeats.liveness import why_dead
from telemetron_collectors.heartbeats.register import Register

LATER = ("2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z", "2030-01-01T00:00:02Z")


class Bench:
    """A register whose agent `planner` beats as it is told; by default every 5 s."""

    def __init__(self) -> None:
        self.clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
        output = RecordingOutput(self.clock)
        self.register = Register(output, stall_after=300.0, forget_after=3600.0)

    def beat(self, instance: str = "i", **fields: Any) -> None:
        self.register.beat("planner", msgspec.convert({"instance": instance, **fields}, Beat))

    def after(self, seconds: float, **limits: float) -> str | None:
        """Why it is dead after so long."""
        self.clock.advance(seconds)
        return why_dead(self.register.lives("planner"), self.clock.monotonic(), **limits)

    def works_for(self, seconds: float, *instances: str, **fields: Any) -> None:
        """Beats every 5 s, and says the same."""
        for _ in range(round(seconds / 5)):
            self.clock.advance(5)
            for instance in instances or ("i",):
                self.beat(instance, **fields)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def task(id: str = "t", progressed_at: str | None = LATER[0], **more: Any) -> dict[str, Any]:
    return {"id": id, "progressed_at": progressed_at, **more}


def test_an_agent_without_instances_is_not_dead(bench: Bench) -> None:
    assert bench.after(1000, max_silence=1.0, max_stall=1.0) is None
    bench.beat()
    bench.register.goodbye("planner", "i")
    assert bench.after(1000, max_silence=1.0) is None


def test_an_agent_is_dead_after_the_allowed_silence(bench: Bench) -> None:
    bench.beat()
    assert bench.after(60, max_silence=60) is None
    assert bench.after(1, max_silence=60) == "no heartbeat for 61 s"
    bench.beat()
    assert bench.after(1, max_silence=60) is None


def test_no_silence_is_shorter_than_three_intervals(bench: Bench) -> None:
    bench.beat(interval_seconds=30)
    assert bench.after(90, max_silence=1) is None
    assert bench.after(0) is None
    assert bench.after(1, max_silence=1) == "no heartbeat for 91 s"
    assert bench.after(0) == "no heartbeat for 91 s"


def test_an_agent_lives_as_long_as_one_instance_beats(bench: Bench) -> None:
    """Also after a crash: the instance before is silent, the new one beats."""
    bench.beat("before")
    bench.works_for(120, "after")
    assert bench.after(1, max_silence=60) is None
    assert bench.after(61, max_silence=60) == "no heartbeat for 62 s"


def test_stalls_are_judged_only_with_max_stall(bench: Bench) -> None:
    bench.works_for(1000, tasks=[task()])
    assert bench.after(0, max_silence=60) is None
    assert bench.after(0, max_silence=60, max_stall=1000) is None
    assert bench.after(0, max_silence=60, max_stall=990) == "no task has made progress for 995 s"
    bench.beat(tasks=[task(progressed_at=LATER[1])])
    assert bench.after(0, max_stall=990) is None


def test_an_agents_clock_does_not_matter_to_a_stall(bench: Bench) -> None:
    for year in range(1970, 1990):  # it is wrong, but it moves
        bench.works_for(50, tasks=[task(progressed_at=f"{year}-01-01T00:00:00Z")])
        assert bench.after(0, max_stall=60) is None
    assert bench.after(0, max_stall=40) == "no task has made progress for 45 s"


@pytest.mark.parametrize(
    "tasks",
    [
        [],
        [task(progressed_at=None)],
        [task(), task("other", progressed_at=None)],
        [task(status="completed")],
        [task(status="completed"), task("other", progressed_at=None)],
    ],
    ids=["idle", "silent on progress", "one of two", "over", "over and silent"],
)
def test_tasks_without_progress_are_no_evidence(bench: Bench, tasks: Any) -> None:
    bench.works_for(1000, tasks=tasks)
    assert bench.after(0, max_silence=60, max_stall=60) is None


def test_tasks_that_are_not_listed_are_no_evidence(bench: Bench) -> None:
    bench.works_for(1000, tasks=[task()], task_count=2)
    assert bench.after(0, max_stall=60) is None


def test_one_task_with_progress_keeps_the_agent_alive(bench: Bench) -> None:
    for at in LATER:
        bench.works_for(50, tasks=[task(), task("other", progressed_at=at)])
        assert bench.after(0, max_stall=60) is None
    bench.works_for(50, tasks=[task(), task("other", progressed_at=LATER[-1])])
    assert bench.after(0, max_stall=60) == "no task has made progress for 95 s"


def test_one_working_instance_keeps_the_agent_alive(bench: Bench) -> None:
    for at in LATER:
        for _ in range(10):
            bench.works_for(5, "hung", tasks=[task()])
            bench.beat("well", tasks=[task(progressed_at=at)])
        assert bench.after(0, max_stall=60) is None
    bench.works_for(100, "hung", "well", tasks=[task()])
    assert bench.after(0, max_stall=60) == "no task has made progress for 95 s"


def test_no_stall_is_shorter_than_three_intervals(bench: Bench) -> None:
    bench.beat(interval_seconds=5, tasks=[task()])
    assert bench.after(15, max_stall=0) is None
    bench.beat(interval_seconds=5, tasks=[task()])
    assert bench.after(1, max_stall=0) == "no task has made progress for 16 s"


def test_a_new_life_begins_without_a_past(bench: Bench) -> None:
    bench.works_for(1000, boot_id="one", tasks=[task()])
    assert bench.after(0, max_stall=60)
    bench.beat(boot_id="two", tasks=[task()])
    assert bench.after(0, max_stall=60) is None


async def test_the_probe_reports_a_silent_agent(live: Any) -> None:
    beat = {"instance": "i", "interval_seconds": 1}
    assert (await live.client.post("/agents/planner/heartbeat", json=beat)).status_code == 204
    probe = "/agents/planner/livez?max_silence=1s"
    assert (await live.client.get(probe)).text == "ok\n"
    silent = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: silent.set())
    async with asyncio.timeout(30):
        while (await live.client.get(probe)).status_code == 200:
            silent.clear()
            await silent.wait()
    dead = await live.client.get(probe)
    assert dead.status_code == 503
    assert dead.json()["detail"] == "no heartbeat for 3 s"
    assert (await live.client.get("/agents/planner/livez?max_silence=1m")).status_code == 200
    assert (await live.client.get("/agents/other/livez?max_silence=1s")).status_code == 200
