"""Every fault that a collector can have: it is that source's, and everything else goes on."""

import asyncio
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from loguru import logger

from telemetron.collector import Put
from telemetron.config.convert import Origin
from telemetron.config.settings import SourceSpec
from telemetron.document import Queue
from telemetron.service.supervisor import Supervisor, SupervisorLimits
from telemetron.store.store import Store
from telemetron.testing import FakeClock

BEFORE = """
import asyncio
from telemetron.collector import Collector, Config, Put
from telemetron.document import Queue
import outside

class ThisConfig(Config, frozen=True):
    depth: int = 7

async def observe(config, output):
    output.put("queues", "q", "q", Queue(name=output.source, depth=config.depth))
    output.confirm()
    await asyncio.Event().wait()

def make(**fields):
    defaults = dict(
        name="x", description="", config=ThisConfig, sections=("queues",),
        max_age_seconds=lambda config: 30, run=observe, paths=("/x/",),
    )
    return Collector(**defaults | fields)
"""
RUN = """
async def run(config, output):
    await asyncio.sleep(0)
{}

collector = make(run=run)
"""

Install = Callable[..., None]


def run(*lines: str) -> str:
    return RUN.format("\n".join("    " + line for line in lines))


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that both a collector and its test can import."""
    module = ModuleType("outside")
    module.gate = threading.Event()  # type: ignore[attr-defined]
    module.told = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside", module)
    return module


@pytest.fixture
def install(site: Path, outside: ModuleType) -> Iterator[Install]:
    """Installs a collector as a package manager does: a module and its metadata."""
    names = []

    def install(name: str, source: str = "collector = make()", object: str = "collector") -> None:
        (site / f"installed_{name}.py").write_text(BEFORE + source)
        info = site / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        point = f"[telemetron.collectors]\n{name} = installed_{name}:{object}\n"
        (info / "entry_points.txt").write_text(point)
        importlib.invalidate_caches()
        names.append(f"installed_{name}")

    yield install
    outside.gate.set()
    for thread in threading.enumerate():
        if thread.name == "load":
            thread.join()
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What is logged as an error."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", backtrace=False, diagnose=False)
    yield lines
    logger.remove(sink)


async def state(live: Any, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The state, once it is as wanted."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            found: dict[str, Any] = (await live.client.get("/system/state")).json()
            if wanted(found):
                return found
            await changed.wait()


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["sources"] if row["key"] == name)


async def beaten(live: Any) -> int:
    """The status of a beat; it is not 204 before the collector is imported."""
    answer = await live.client.post("/agents/a/heartbeat", json={"instance": "i"})
    return int(answer.status_code)


async def check_the_others(live: Any) -> None:
    """Another source, heartbeats and the endpoint work."""
    found = await state(live, lambda found: row(found, "fine")["status"] == "ok")
    assert "fine" in [queue["name"] for queue in found["queues"]]
    async with asyncio.timeout(30):
        while await beaten(live) != 204:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await live.client.get("/readyz")).status_code == 200


CRASHES = {
    "ValueError": "raise ValueError('hunter2')",
    "SystemExit": "raise SystemExit(3)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "CancelledError": "raise asyncio.CancelledError",
    "BaseExceptionGroup": "raise BaseExceptionGroup('', [SystemExit()])",
    "RecursionError": "def f(): f()\n    f()",
    "RuntimeError": "raise StopIteration",
}


@pytest.mark.parametrize("error", CRASHES)
async def test_crash_of_one_source_leaves_the_others_running(
    serving: Any, install: Install, errors: list[str], error: str
) -> None:
    install("fine")
    install("bad", run(CRASHES[error]))
    async with serving("sources: {bad: {}, fine: {}}") as live:
        found = await state(live, lambda found: row(found, "bad")["status"] == "failing")
        (problem,) = row(found, "bad")["problems"]
        assert problem["reason"] == "Crashed"
        assert problem["message"] == f"{error} in the collector"
        await check_the_others(live)
        assert live.app.service.store.sources["bad"].restarts >= 1
        assert "source bad: the collector crashed" in errors[0]
        assert f"{error}" in errors[0]


BREACHES = {
    "returns": ("the collector returned", run("return")),
    "is no coroutine": ("TypeError", "collector = make(run=lambda config, output: None)"),
    "is nothing": ("TypeError", "collector = make(run=None)"),
    "puts elsewhere": ("ValueError", run("output.put('agents', 'g', 'i', Queue(name='q'))")),
    "removes elsewhere": ("ValueError", run("output.remove('agents', 'i')")),
    "replaces elsewhere": ("ValueError", run("await output.replace([Put('agents', 'g', 'i', 5)])")),
    "makes up a trouble": ("ValueError", run("output.trouble('', 'Wrong', 'reason')")),
    "makes up a reason": ("ValueError", run("output.confirm(reason='Wrong')")),
    "mounts elsewhere": ("ValueError", run("output.mount('/agents/', None)")),
    "mounts twice": ("ValueError", run("output.mount('/x/', 0)", "output.mount('/x/', 0)")),
}


@pytest.mark.parametrize("breach", BREACHES)
async def test_run_that_breaks_its_contract_is_a_crash(
    serving: Any, install: Install, breach: str
) -> None:
    message, source = BREACHES[breach]
    install("fine", "collector = make(paths=())")
    install("bad", source)
    async with serving("sources: {bad: {}, fine: {}}") as live:
        found = await state(live, lambda found: row(found, "bad")["status"] == "failing")
        (problem,) = row(found, "bad")["problems"]
        assert problem["message"].removesuffix(" in the collector") == message
        await check_the_others(live)
        assert (await live.client.get("/x/")).status_code == 503


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ImportError('hunter2')", "ImportError"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("this is no Python", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise StopIteration", "StopIteration"),
        ("", "AttributeError"),
        ("collector = 5", "TypeError"),
        ("collector = make(config=5)", "TypeError"),
        ("collector = make(max_age_seconds=lambda config: 1 / 0)", "ZeroDivisionError"),
        ("collector = make(max_age_seconds=lambda config: None)", "TypeError"),
        ("collector = make(max_age_seconds=lambda config: float('nan'))", "ValueError"),
        ("collector = make(max_age_seconds=lambda config: 0)", "ValueError"),
        ("collector = make(paths=None)", "TypeError"),
        ("collector = make(paths=('/',))", "ValueError"),
        ("collector = make(paths='/x/')", "ValueError"),
        ("collector = make(paths=('/x',))", "ValueError"),
    ],
)
async def test_collector_that_cannot_be_loaded_is_failing(
    serving: Any, install: Install, errors: list[str], source: str, message: str
) -> None:
    install("fine")
    install("bad", source)
    async with serving("sources: {bad: {}, fine: {}}") as live:
        found = await state(live, lambda found: row(found, "bad")["status"] == "failing")
        (problem,) = row(found, "bad")["problems"]
        assert problem["reason"] == "ImportFailed"
        assert problem["message"] == f"{message} while the collector 'bad' was loaded"
        assert message in errors[0]
        await check_the_others(live)


async def test_address_of_a_source_comes_from_its_configuration(
    serving: Any, install: Install
) -> None:
    """As its collector finds it in the configuration; null without one, and while it is off."""
    install("fine")
    install("far", "collector = make(address=lambda config: f'host:{config.depth}')")
    async with serving("sources: {far: {depth: 9}, fine: {}}") as live:
        found = await state(live, lambda found: row(found, "far")["status"] == "ok")
        assert row(found, "far")["address"] == "host:9"
        await check_the_others(live)
        assert row(found, "fine")["address"] is None
        assert row(found, "heartbeats")["address"] is None


async def test_collector_that_is_not_installed_is_failing(serving: Any, install: Install) -> None:
    install("fine")
    async with serving("sources: {bad: {collector: nowhere}, fine: {}}") as live:
        found = await state(live, lambda found: row(found, "bad")["status"] == "failing")
        (problem,) = row(found, "bad")["problems"]
        assert problem["reason"] == "NotInstalled"
        assert "nowhere" in problem["message"]
        assert row(found, "bad")["max_age_seconds"] is None
        await check_the_others(live)


async def test_invalid_configuration_is_failing(serving: Any, install: Install) -> None:
    install("fine")
    async with serving("sources:\n  bad: {collector: fine, dept: 5}\n  fine: {depth: 3}\n") as live:
        found = await state(live, lambda found: row(found, "bad")["status"] == "failing")
        (problem,) = row(found, "bad")["problems"]
        assert problem["reason"] == "InvalidConfig"
        assert ":2: sources.bad.dept: " in problem["message"]
        assert '"depth"' in problem["message"]
        await check_the_others(live)


async def test_hanging_imports_block_nothing_else(serving: Any, install: Install) -> None:
    """Install more of them than a pool has threads."""
    limits = SupervisorLimits(load_seconds=0.5)
    install("fine")
    install("bad", "outside.gate.wait()")
    names = [f"bad{number}" for number in range(40)]
    config = "".join(f"  {name}: {{collector: bad}}\n" for name in names)
    async with serving(f"sources:\n{config}  fine: {{}}\n", {"limits": limits}) as live:
        found = await state(live, lambda found: row(found, "fine")["status"] == "ok")
        assert row(found, "bad0")["status"] in ("starting", "stale")
        await check_the_others(live)
        headers = {"accept-encoding": "gzip"}
        answer = await live.client.get("/system/state", headers=headers)
        assert answer.headers["content-encoding"] == "gzip"
        await state(live, lambda found: {row(found, n)["status"] for n in names} == {"stale"})


async def test_slow_import_starts_later_and_is_frozen(
    serving: Any, install: Install, outside: ModuleType
) -> None:
    install("slow", "outside.gate.wait()\ncollector = make()\nkept = [[] for _ in range(10**5)]")
    async with serving("sources: {slow: {}}", {"limits": SupervisorLimits()}) as live:
        found = await state(live, lambda found: True)
        assert row(found, "slow")["status"] == "starting"
        frozen = gc.get_freeze_count()
        outside.gate.set()
        found = await state(live, lambda found: row(found, "slow")["status"] == "ok")
        assert [queue["name"] for queue in found["queues"]] == ["slow"]
        assert gc.get_freeze_count() > frozen + 9 * 10**4  # no collection looks at it again


async def test_invalid_part_is_a_problem_of_a_source_that_is_ok(
    serving: Any, install: Install
) -> None:
    put = "output.put('queues', 'g', 'bad', Queue(name={}))"
    install("bad", run(put.format(5), put.format("'q'").replace("bad", "good"), "output.confirm()",
                       "await asyncio.Event().wait()"))  # fmt: skip
    async with serving("sources: {bad: {}}") as live:
        found = await state(live, lambda found: found["queues"])
        assert row(found, "bad")["status"] == "ok"
        assert [problem["reason"] for problem in row(found, "bad")["problems"]] == ["Refused"]


async def test_second_source_of_a_path_fails(serving: Any, install: Install) -> None:
    mount = "output.mount('/x/', None)"
    install("x", run(mount, "output.confirm()", "await asyncio.Event().wait()"))
    async with serving("sources: {one: {collector: x}, two: {collector: x}}") as live:
        await state(
            live,
            lambda found: {row(found, n)["status"] for n in ("one", "two")} == {"ok", "failing"},
        )


async def test_task_that_outlives_its_run_cannot_write(
    serving: Any, install: Install, outside: ModuleType
) -> None:
    later = """
async def later(output):
    await outside.ended.wait()
    for write in (
        lambda: output.put("queues", "late", "late", Queue(name="late")),
        lambda: output.remove("queues", "q"),
        lambda: output.confirm(),
        lambda: output.trouble("", "Timeout", ""),
        lambda: output.mount("/x/", None),
    ):
        try:
            write()
        except RuntimeError as error:
            outside.told.append(str(error))
    try:
        await output.replace([])
    except RuntimeError as error:
        outside.told.append(str(error))

outside.runs = 0
outside.ended = asyncio.Event()
async def run(config, output):
    outside.runs += 1
    if outside.runs == 1:
        outside.later = asyncio.create_task(later(output))
        output.put("queues", "q", "q", Queue(name="known"))
        output.confirm()
        raise ValueError
    await asyncio.Event().wait()
collector = make(run=run)
"""
    install("bad", later)
    async with serving("sources: {bad: {}}") as live:
        await state(live, lambda found: row(found, "bad")["status"] == "failing")
        outside.ended.set()
        await outside.later
        assert outside.told == ["this run has ended; its output is closed"] * 6
        live.app.service.store.flush()
        found = await state(live, lambda found: True)
        assert [queue["name"] for queue in found["queues"]] == ["known"]
        assert row(found, "bad")["status"] == "failing"


async def test_trouble_lasts_until_the_scope_is_confirmed(
    serving: Any, install: Install, outside: ModuleType
) -> None:
    steps = """
async def run(config, output):
    outside.output = output
    output.trouble("b", "Timeout", "two\\nlines")
    output.confirm("a")
    await asyncio.Event().wait()
collector = make(run=run)
"""
    install("x", steps)
    async with serving("sources: {x: {}}") as live:
        found = await state(live, lambda found: row(found, "x")["problems"])
        (problem,) = row(found, "x")["problems"]
        assert (problem["scope"], problem["reason"]) == ("b", "Timeout")
        assert problem["message"] == "two lines"
        assert row(found, "x")["status"] == "starting"
        outside.output.confirm("b")
        found = await state(live, lambda found: row(found, "x")["status"] == "ok")
        assert row(found, "x")["problems"] == []
        outside.output.confirm("b", reason="Forbidden", message="no permission")
        found = await state(live, lambda found: row(found, "x")["problems"])
        assert row(found, "x")["status"] == "ok"


# by itself, with a clock that is moved by hand


class Bench:
    """A supervisor without a server."""

    def __init__(self, clock: Any = None) -> None:
        self.clock = clock or FakeClock()
        self.store = Store("test", self.clock)
        self.supervisor = Supervisor(self.store)

    async def start(self, *names: str) -> None:
        specs = [SourceSpec(name, name, {}, Origin("test")) for name in names]
        self.supervisor.start(specs)
        await self.supervisor.loaded(20)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle()

    def __getattr__(self, name: str) -> Any:
        return self.store.sources[name]


@pytest.fixture
def bench() -> Bench:
    return Bench()


RUNS = """
async def run(config, output):
    outside.told.append(output.clock.monotonic())
    await outside.work(output, len(outside.told))
collector = make(run=run)
"""


async def test_crash_is_resolved_once_the_next_run_confirms(
    bench: Bench, install: Install, outside: ModuleType
) -> None:
    confirms = asyncio.Event()

    async def work(output: Any, number: int) -> None:
        if number == 1:
            raise ValueError
        await confirms.wait()
        output.confirm()
        await asyncio.Event().wait()

    outside.work = work  # type: ignore[attr-defined]
    install("bad", RUNS)
    await bench.start("bad")
    assert (bench.bad.status, bench.bad.restarts) == ("failing", 1)
    await bench.pass_time(1.5)
    assert bench.bad.status == "starting"
    assert [problem.reason for problem in bench.bad.row().problems] == ["Crashed"]
    confirms.set()
    await bench.settle()
    assert (bench.bad.status, bench.bad.row().problems, bench.bad.restarts) == ("ok", [], 1)
    assert await bench.supervisor.stop() == []


async def test_a_replacement_that_outlives_its_run_confirms_nothing(
    bench: Bench, install: Install, outside: ModuleType
) -> None:
    async def work(output: Any, number: int) -> None:
        parts = [Put("queues", str(n), str(n), Queue(name=str(n))) for n in range(2000)]
        outside.replacing = asyncio.create_task(output.replace(parts))  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        raise ValueError

    outside.work = work  # type: ignore[attr-defined]
    install("bad", RUNS)
    await bench.start("bad")
    await outside.replacing
    assert bench.bad.status == "failing"
    assert [problem.reason for problem in bench.bad.row().problems] == ["Crashed"]
    await bench.supervisor.stop()


async def test_a_source_that_was_complete_is_so_after_its_restart(
    bench: Bench, install: Install, outside: ModuleType
) -> None:
    async def work(output: Any, number: int) -> None:
        output.confirm()
        await output.clock.sleep(5)
        raise ValueError

    outside.work = work  # type: ignore[attr-defined]
    install("bad", RUNS)
    await bench.start("bad")
    seen = [bench.bad.status]
    for _ in range(4):
        await bench.pass_time(5)
        seen.append(bench.bad.status)
    assert seen == ["ok", "failing", "ok", "failing", "ok"]
    assert bench.bad.restarts == 2
    await bench.supervisor.stop()


class HastyClock(FakeClock):
    """Nobody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, delay: float) -> None:
        self.slept.append(delay)
        self.advance(delay)
        await asyncio.sleep(0)


async def test_restart_delays_grow_until_a_run_lasts(install: Install, outside: ModuleType) -> None:
    bench = Bench(HastyClock())
    finished = asyncio.Event()

    async def work(output: Any, number: int) -> None:
        if number == 12:
            output.clock.advance(61)
        if number == 14:
            finished.set()
            await asyncio.Event().wait()
        raise ValueError

    outside.work = work  # type: ignore[attr-defined]
    install("bad", RUNS)
    await bench.start("bad")
    await finished.wait()
    slept = bench.clock.slept
    expected = [*(min(2**number, 300) for number in range(11)), 1, 2]
    assert len(slept) == len(expected)
    for seconds, about in zip(slept, expected, strict=True):
        assert 0.5 * about <= seconds <= 1.5 * about
    assert len({seconds / about for seconds, about in zip(slept, expected, strict=True)}) > 1
    await bench.supervisor.stop()


async def test_stopping_ends_every_run(bench: Bench, install: Install, outside: ModuleType) -> None:
    """Also one whose clean-up fails, one that returns then, and one that waits for its restart."""
    install("fine")
    for name, end in {"fails": "raise ValueError", "returns": "return"}.items():
        install(name, run("try:", "    await asyncio.Event().wait()", "finally:", f"    {end}"))
    install("crashed", run("raise ValueError"))
    install("hangs", "outside.gate.wait()")
    specs = [SourceSpec("hangs", "hangs", {}, Origin("test"))]
    bench.supervisor.start(specs)
    for name in ("fine", "fails", "returns", "crashed"):
        bench.supervisor.start([SourceSpec(name, name, {}, Origin("test"))])
    while bench.crashed.status != "failing" or bench.fine.status != "ok":
        await bench.supervisor.loaded(0.05)
        await bench.settle()
    assert await bench.supervisor.stop() == []
    assert bench.fails.restarts == bench.returns.restarts == 0


async def test_run_that_ignores_its_cancellation_is_named(
    bench: Bench, install: Install, outside: ModuleType
) -> None:
    released = asyncio.Event()

    async def work(output: Any, number: int) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                outside.told.append("asked to end")

    outside.work = work  # type: ignore[attr-defined]
    install("fine")
    install("bad", RUNS)
    await bench.start("bad", "fine")
    assert await bench.supervisor.stop() == ["bad"]
    assert outside.told[1:] == ["asked to end"]
    released.set()
    await bench.settle()
    assert bench.bad.restarts == 0


SAY = 'import sys; print(\'{"message": "hanging"}\', file=sys.stderr, flush=True)'
HANGS = f"""
async def run(config, output):
    {SAY}
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
collector = make(run=run)
"""
HANGING_IMPORT = f"{SAY}; import threading; threading.Event().wait()"


@pytest.mark.parametrize("source", [HANGS, HANGING_IMPORT], ids=["run", "import"])
def test_a_process_with_a_source_that_hangs_stops(
    install: Install, site: Path, tmp_path: Path, source: str
) -> None:
    install("bad", source)
    (site / "outside.py").touch()
    config = tmp_path / "config.yaml"
    config.write_text("sources: {bad: {}}")
    environment = {**os.environ, "PYTHONPATH": str(site), "SERVER_PORT": "0"}
    command = [sys.executable, "-m", "telemetron", "serve", "--config", str(config)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        try:
            awaited = {"hanging", "listening"}
            while awaited:
                awaited.discard(json.loads(next(lines))["message"].split()[0])
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
            assert process.wait(50) == 0
        finally:
            process.kill()
    assert "Traceback" not in "".join(rest)
    if source == HANGS:
        assert any("did not stop in time: bad" in line for line in rest)
