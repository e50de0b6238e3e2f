"""`python -m bench [NAME …] [--quick]`: measures groups of figures and writes bench/RESULTS.md.

A group whose programs are missing is not measured; the last lines name it, and its figures stay.
"""

import argparse
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module

from bench import process, results
from bench.report import Row, note

NEEDS = {
    "reads": ("wrk", "go"),
    "beats": ("wrk",),
    "batches": ("wrk",),
    "busy": ("wrk",),
    "changing": ("wrk",),
    "history": ("wrk",),
    "kafka": ("java",),
    "kubernetes": ("go",),
    "sizing": ("go",),
}
"""Programs beside Python that a group needs."""
LONG = ("pods", "hour", "storm")
"""Groups that take an hour or more: measured only by name."""


def main() -> int:
    """Measure the groups that the command line names; return 1 if one of them failed."""
    names = ", ".join(results.TITLES)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--quick", action="store_true", help="look at the figures, keep none")
    parser.add_argument("--render", action="store_true", help="only write the page again")
    args = parser.parse_args()
    if args.render:
        results.save(results.load())
        return 0
    if unknown := [name for name in args.names if name not in results.TITLES]:
        parser.error(f"no benchmark {unknown[0]}; there are {names}")
    usual = [name for name in results.TITLES if name not in LONG]
    return measure_all(args.names or usual, args.quick)


def measure_all(names: list[str], quick: bool) -> int:
    """Measure each group; report at the end those that could not be measured."""
    run = results.this_run()
    process.pin(process.LOAD_CORE)
    problems = [problem for name in names if (problem := measure(name, run, quick))]
    for problem in problems:
        note(f"not measured: {problem}")
    return int(any("failed" in problem for problem in problems))


def measure(name: str, run: results.Run, quick: bool) -> str:
    """Measure one group and keep its figures; return why that is impossible."""
    if missing := [one for one in NEEDS.get(name, ()) if not shutil.which(one)]:
        return f"{name}, without {', '.join(missing)}"
    note(f"{name} …")
    start = time.monotonic()
    try:
        rows = list(group(name)(quick))
        figures = results.replaced([] if quick else results.load(), name, run, rows)
    except Exception:
        traceback.print_exc()
        return f"{name}, which failed"
    note(f"{name}: {time.monotonic() - start:.0f} s")
    print(results.section(figures, name), flush=True)
    if not quick:
        results.save(figures)
    return ""


def group(name: str) -> Callable[[bool], Iterable[Row]]:
    """Return the function that measures a group; with True it only has a look."""
    module = import_module(f"bench.{results.MODULES.get(name, name)}")
    function: Callable[[bool], Iterable[Row]] = getattr(
        module, name if name in results.MODULES else "run"
    )
    return function


sys.exit(main())
