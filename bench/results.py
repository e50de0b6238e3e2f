"""The results of all runs: `results.json` holds the figures, `RESULTS.md` is made from it.

Each row keeps its newest figure and a few earlier values, separately for each Python.
"""

import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.report import Row, number

HERE = Path(__file__).parent
DATA, PAGE = HERE / "results.json", HERE / "RESULTS.md"
OWN = (":!bench/results.json", ":!bench/RESULTS.md")
EARLIER = 3
HEAD = """\
# Results

`make bench` measures these figures and writes this page from [results.json](results.json);
`make bench ARGS="reads beats"` measures only these groups. Do not edit either file.

A ratio (×) compares medians of rounds that alternate between its two sides in one run, so it
changes little from machine to machine. Times, rates and memory hold for the named machine, which
other work shares: `load` is its load average before the run. Each group links to the module that
measures it.
"""
TITLES = {
    "reads": "Reads",
    "beats": "Heartbeats",
    "batches": "Batches of heartbeats",
    "busy": "Heartbeats and reads at once",
    "changing": "Reads while the state changes",
    "loop": "Event loop",
    "start": "Start",
    "memory": "Memory",
    "hour": "Memory over an hour",
    "stalled": "Stalled readers",
    "sdk": "Agent SDK",
    "history": "History",
    "pods": "History of 10,000 pods over a day",
    "findings": "Findings",
    "storm": "An hour of changes with findings",
    "brief": "Brief",
    "litellm": "LiteLLM",
    "kafka": "Kafka",
    "kubernetes": "Kubernetes",
    "scrapes": "Scrapes of the state",
    "sizing": "Sizing",
}
MODULES = {"hour": "memory", "pods": "history", "storm": "findings"}
"""Modules that have not the name of their group."""
TABLE = "| what | measured | goal | holds | earlier |\n|---|---|---|---|---|"
MARKS = {None: "", True: "yes", False: "**no**"}


class Run(msgspec.Struct, frozen=True):
    """The circumstances of a figure."""

    at: str
    commit: str
    python: str
    machine: str
    load: float

    @property
    def version(self) -> tuple[int, ...]:
        """Return the version of Python without its patch level: (3, 13)."""
        return tuple(map(int, self.python.split(".")[:2]))


class Earlier(msgspec.Struct, frozen=True):
    """A value that a later run has replaced."""

    value: float
    at: str
    commit: str


class Figure(msgspec.Struct, frozen=True):
    """A row with its newest value."""

    group: str
    row: Row
    run: Run
    earlier: list[Earlier] = []


def this_run() -> Run:
    """Describe this machine, this Python and this commit."""
    at = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    return Run(at, _commit(), platform.python_version(), _machine(), round(os.getloadavg()[0], 2))


def load(path: Path = DATA) -> list[Figure]:
    """Return the figures of a file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Figure])


def save(figures: list[Figure]) -> None:
    """Write both files."""
    DATA.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    PAGE.write_text(page(figures), "utf-8")


def replaced(figures: list[Figure], group: str, run: Run, rows: Iterable[Row]) -> list[Figure]:
    """Return the figures with the new rows of a group; those of other Pythons stay."""
    new = [Figure(group, row, run) for row in rows]
    for name, count in Counter(one.row.what for one in new).items():
        if count > 1:
            raise ValueError(f"{group} has two figures {name!r}")
    measured = (group, run.version)
    old = {one.row.what: one for one in figures if (one.group, one.run.version) == measured}
    kept = [one for one in figures if (one.group, one.run.version) != measured]
    return kept + [_after(old.get(one.row.what), one) for one in new]


def page(figures: list[Figure]) -> str:
    """Return RESULTS.md."""
    return "\n".join([HEAD, *_missed(figures), *_sections(figures)]) + "\n"


def section(figures: list[Figure], group: str) -> str:
    """Return the part of the page that a group has."""
    return "\n".join(_sections([one for one in figures if one.group == group])) + "\n"


def _sections(figures: list[Figure]) -> Iterator[str]:
    for group, title in TITLES.items():
        if measured := [one for one in figures if one.group == group]:
            yield f"\n## {title}\n"
            yield from _tables(group, measured)


def _after(old: Figure | None, new: Figure) -> Figure:
    """Return the new figure with the values before it."""
    if old is None:
        return new
    before = Earlier(old.row.value, old.run.at, old.run.commit)
    return msgspec.structs.replace(new, earlier=[before, *old.earlier][:EARLIER])


def _missed(figures: list[Figure]) -> Iterator[str]:
    judged = [one for one in figures if one.row.holds is not None]
    missed = [one for one in judged if not one.row.holds]
    yield f"{len(judged) - len(missed)} of {len(judged)} goals hold."
    if missed:
        yield "Missed:\n"
    for one in missed:
        what = f"{TITLES[one.group]}: {one.row.what}"
        version = ".".join(map(str, one.run.version))
        yield f"- {what}: {_value(one.row)}, goal {one.row.goal} (Python {version})"


def _tables(group: str, figures: list[Figure]) -> Iterator[str]:
    """Yield a table for each Python, the newest first."""
    module = MODULES.get(group, group)
    yield f"[{module}.py]({module}.py)"
    for version in sorted({one.run.version for one in figures}, reverse=True):
        rows = [one for one in figures if one.run.version == version]
        run = rows[0].run
        yield f"\nPython {run.python}, {run.at} UTC, commit {run.commit}, load {run.load:g};"
        yield f"{run.machine}\n"
        yield TABLE
        yield from map(_line, rows)


def _line(figure: Figure) -> str:
    row = figure.row
    detail = f" ({row.detail})" if row.detail else ""
    earlier = ", ".join(f"{number(one.value)} ({one.at[:10]})" for one in figure.earlier)
    cells = (row.what, f"{_value(row)}{detail}", row.goal, MARKS[row.holds], earlier)
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _value(row: Row) -> str:
    return f"{number(row.value)} {row.unit}"


def _commit() -> str:
    """Return the commit, with a `+` if files other than the results differ from it."""
    if not shutil.which("git"):
        return "unknown"
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", *OWN)
    return commit + "+" * bool(changed)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=HERE.parent)
    return done.stdout.strip()


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpus = f"{len(models)} cores of {models[0] if models else platform.machine()}"
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{cpus}, {system}, Linux {platform.release().partition('-')[0]}"
