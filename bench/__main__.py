"""`python -m bench [NAME …] [--quick]`: measures groups of figures and writes bench/RESULTS.md.

A group whose programs are missing is not measured; the last lines name it, and its figures stay.
"""

import argparse
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench import (
    batches,
    beats,
    brief,
    busy,
    changing,
    findings,
    history,
    kafka,
    kubernetes,
    litellm,
    loop,
    memory,
    process,
    reads,
    results,
    sdk,
    sizing,
    stalled,
    start,
)
from bench.report import Row, note


class Group(NamedTuple):
    """Figures that are measured together."""

    run: Callable[[bool], Iterable[Row]]
    """With True a look, not a measurement."""
    needs: tuple[str, ...] = ()
    """Programs beside Python."""


GROUPS = {
    "reads": Group(reads.run, ("wrk", "go")),
    "beats": Group(beats.run, ("wrk",)),
    "batches": Group(batches.run, ("wrk",)),
    "busy": Group(busy.run, ("wrk",)),
    "changing": Group(changing.run, ("wrk",)),
    "loop": Group(loop.run),
    "start": Group(start.run),
    "memory": Group(memory.run),
    "stalled": Group(stalled.run),
    "sdk": Group(sdk.run),
    "history": Group(history.run, ("wrk",)),
    "findings": Group(findings.run),
    "brief": Group(brief.run),
    "litellm": Group(litellm.run),
    "kafka": Group(kafka.run, ("java",)),
    "kubernetes": Group(kubernetes.run, ("go",)),
    "sizing": Group(sizing.run, ("go",)),
    "pods": Group(history.pods),
    "hour": Group(memory.hour),
}
LONG = ("pods", "hour")
"""Groups that take an hour or more: measured only by name."""


def main() -> int:
    """Measure the groups that the command line names; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="look at the figures, keep none")
    parser.add_argument("--render", action="store_true", help="only write the page again")
    args = parser.parse_args()
    if args.render:
        results.save(results.load())
        return 0
    if unknown := [name for name in args.names if name not in GROUPS]:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(GROUPS)}")
    run = results.this_run()
    process.pin(process.LOAD_CORE)
    names = args.names or [name for name in GROUPS if name not in LONG]
    problems = [problem for name in names if (problem := measure(name, run, args.quick))]
    for problem in problems:
        note(f"not measured: {problem}")
    return int(any("failed" in problem for problem in problems))


def measure(name: str, run: results.Run, quick: bool) -> str:
    """Measure one group and keep its figures; return why that is impossible."""
    group = GROUPS[name]
    if missing := [program for program in group.needs if not shutil.which(program)]:
        return f"{name}, without {', '.join(missing)}"
    note(f"{name} …")
    start = time.monotonic()
    try:
        rows = list(group.run(quick))
    except Exception:
        traceback.print_exc()
        return f"{name}, which failed"
    note(f"{name}: {time.monotonic() - start:.0f} s")
    figures = results.replaced([] if quick else results.load(), name, run, rows)
    print(results.section(figures, name), flush=True)
    if not quick:
        results.save(figures)
    return ""


sys.exit(main())
