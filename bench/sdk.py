"""The costs of the agent SDK for its process: one agent, which reports to a real Telemetron."""

import json
import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench import process
from bench.report import Row, at_most, note

CALL_US = 10
BUSY_PERCENT, IDLE_PERCENT = 10, 0.1
BEAT_KIB = 256
IMPORT_MS, IMPORT_MB = 50, 10
PACE = 10_000
TIMEOUT = 120

CALLS = """
agent = Agent("bench", interval=5)
spent = []
for number in range(count):
    before = perf_counter_ns()
    with agent.task() as task:
        task.progress("on")
    spent.append(perf_counter_ns() - before)
spent.sort()
report(p50=spent[count // 2] / 1e3, p999=spent[int(count * 0.999)] / 1e3)
"""

# A number of tasks each millisecond; the same loop without the SDK shows the costs of the pace.
BUSY = """
agent = Agent("bench", interval=5)
def tick():
    for _ in range(pace // 1000):
        with agent.task() as task:
            task.progress("on")
def paced(work):
    begun, worked = monotonic(), process_time()
    for number in range(1, seconds * 1000 + 1):
        work()
        sleep(max(0, begun + number / 1000 - monotonic()))
    return (process_time() - worked) / seconds * 100, monotonic() - begun
paced(tick)
cost, took = paced(tick)
report(cost=cost - paced(lambda: None)[0], rate=pace * seconds / took)
"""

IDLE = """
agent = Agent("bench", interval=5)
kept = [agent.task(f"t-{number}") for number in range(10)]
sleep(1)
worked = process_time()
sleep(seconds)
report(cost=(process_time() - worked) / seconds * 100)
"""

BEAT = """
from telemetron_agent.endpoint import Endpoint
sizes = []
def send(self, method, path, body, *more, send=Endpoint.send):
    sizes.append(len(body or b""))
    return send(self, method, path, body, *more)
Endpoint.send = send
agent = Agent("bench", description="x" * 500, models=["m" * 256] * 64)
kept = [agent.task(f"{n:04}" + "x" * 252, queue="q" * 256) for n in range(2000)]
for task in kept:
    task.progress("s" * 500)
    for n in range(16):
        task.wait("tool", f"{n:02}" + "w" * 254).__enter__()
if not agent.flush(30):
    raise RuntimeError("it was refused")
report(size=max(sizes))
"""

PREFACE = """
import json
from time import monotonic, perf_counter_ns, process_time, sleep
from telemetron_agent import Agent
def report(**figures): print(json.dumps(figures))
"""

IMPORT = """
import json, time
def memory():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6
before, held = time.perf_counter(), memory()
import telemetron_agent
took = time.perf_counter() - before
print(json.dumps({"ms": took * 1000, "mb": memory() - held}))
"""


def run(quick: bool) -> Iterator[Row]:
    """Measure each figure in its own process, and the median of several rounds of calls."""
    count, seconds, rounds = (20_000, 2, 1) if quick else (200_000, 6, 3)
    with process.telemetron() as server:
        note("sdk: calls")
        calls = [_agent(server.url, CALLS, count=count) for _ in range(rounds)]
        p50, p999 = (median(call[name] for call in calls) for name in ("p50", "p999"))
        alone = median(_agent("", CALLS, count=count)["p50"] for _ in range(rounds))
        detail = f"p99.9 {p999:.0f} µs; without a server {alone:.1f} µs"
        yield at_most("`with agent.task(): progress()`, p50", p50, CALL_US, "µs", detail)
        note("sdk: busy")
        busy = _agent(server.url, BUSY, seconds=seconds, pace=PACE)
        detail = f"{busy['rate']:,.0f} /s"
        yield at_most("10,000 tasks a second, of a core", busy["cost"], BUSY_PERCENT, "%", detail)
        note("sdk: idle")
        idle = _agent(server.url, IDLE, seconds=3 * seconds)["cost"]
        yield at_most("idle, 10 tasks open, of a core", idle, IDLE_PERCENT, "%")
        size = _agent(server.url, BEAT)["size"] / 1024
    yield at_most("largest beat", size, BEAT_KIB, "KiB", "2,000 tasks, all texts at their limit")
    loads = [_python("", IMPORT) for _ in range(rounds + 1)][1:]
    yield at_most("import, time", median(load["ms"] for load in loads), IMPORT_MS, "ms")
    yield at_most("import, memory", median(load["mb"] for load in loads), IMPORT_MB, "MB")


def _agent(url: str, source: str, **values: int) -> Any:
    return _python(url, f"{PREFACE}\n{'; '.join(f'{k} = {v}' for k, v in values.items())}{source}")


def _python(url: str, source: str) -> Any:
    """Return the JSON that the program prints."""
    env = {"PATH": "", "PYTHONPATH": str(process.ROOT / "sdk"), "TELEMETRON_URL": url}
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=env,
        capture_output=True,
        check=True,
        text=True,
        timeout=TIMEOUT,
    )
    return json.loads(done.stdout)
