"""Format results of benchmarks as Markdown."""

import platform
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

PACKAGES = ("telemetron", "uvicorn", "uvloop", "httptools", "msgspec", "starlette")


class Row(NamedTuple):
    """One line of a table; `met` is None if there is no target."""

    what: str
    figure: str
    target: str = ""
    met: bool | None = None


def at_least(what: str, ratio: float, target: float, figure: str) -> Row:
    """Return a row with a ratio that must not be smaller than its target."""
    return Row(what, f"{ratio:.2f} × ({figure})", f"≥ {target} ×", round(ratio, 2) >= target)


def at_most(what: str, value: float, target: float, unit: str, figure: str = "") -> Row:
    """Return a row with a value that must not be larger than its target."""
    note = f" ({figure})" if figure else ""
    return Row(what, f"{value:.3g} {unit}{note}", f"≤ {target:g} {unit}", value <= target)


def table(title: str, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of one table."""
    yield from (f"### {title}", "", "| what | measured | target | met |", "|---|---|---|---|")
    marks = {None: "", True: "yes", False: "**no**"}
    for row in rows:
        yield f"| {row.what} | {row.figure} | {row.target} | {marks[row.met]} |"
    yield ""


def machine() -> Iterator[str]:
    """Yield the machine and the versions of the measurement."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield f"- {datetime.now(UTC):%Y-%m-%d}, {_cpus()}, {_system()}, Linux {platform.release()}"
    yield f"- Python {platform.python_version()}; {packages}"


def p99(values: Iterable[float]) -> float:
    """Return the 99th percentile; of few values the largest."""
    ordered = sorted(values)
    return quantiles(ordered, n=100)[98] if len(ordered) >= 100 else ordered[-1]


def note(text: str) -> None:
    """Print progress for the waiting user."""
    print(text, file=sys.stderr, flush=True)


def _cpus() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} shared cores of {models[0] if models else platform.machine()}"


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
