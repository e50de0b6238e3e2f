"""The rows of results, and notes for the waiting user."""

import sys
from collections.abc import Iterable
from statistics import quantiles
from typing import NamedTuple


class Row(NamedTuple):
    """One measured figure."""

    what: str
    value: float
    unit: str
    goal: str = ""
    """As it is shown, such as `≤ 20 ms`."""
    holds: bool | None = None
    """None if there is no goal."""
    detail: str = ""


def figure(what: str, value: float, unit: str, detail: str = "") -> Row:
    """Return a row without a goal."""
    return Row(what, rounded(value), unit, detail=detail)


def at_least(what: str, value: float, goal: float, unit: str, detail: str = "") -> Row:
    """Return a row with a value that must not be smaller than its goal."""
    value = rounded(value)
    return Row(what, value, unit, f"≥ {number(goal)} {unit}", value >= goal, detail)


def at_most(what: str, value: float, goal: float, unit: str, detail: str = "") -> Row:
    """Return a row with a value that must not be larger than its goal."""
    value = rounded(value)
    return Row(what, value, unit, f"≤ {number(goal)} {unit}", value <= goal, detail)


def rounded(value: float) -> float:
    """Return the value with three digits, as it is shown and judged."""
    return float(f"{value:.3g}")


def number(value: float) -> str:
    """Return the value as it is shown: 0.98, 12.5, 1,300."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"


def p99(values: Iterable[float]) -> float:
    """Return the 99th percentile; of few values the largest."""
    ordered = sorted(values)
    return quantiles(ordered, n=100)[98] if len(ordered) >= 100 else ordered[-1]


def note(text: str) -> None:
    """Print progress for the waiting user."""
    print(text, file=sys.stderr, flush=True)
