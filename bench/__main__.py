"""`python -m bench [NAME …] [--quick]`: runs the benchmarks and prints their tables as Markdown."""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator

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
    scrapes,
    sdk,
    shortcuts,
    sizing,
    stalled,
    start,
)
from bench.report import Row, machine, note, table

BENCHES: dict[str, tuple[str, Callable[[bool], Iterable[Row]]]] = {
    "reads": ("Reads", reads.run),
    "shortcuts": ("Requests without an ASGI call", shortcuts.run),
    "changing": ("Reads while the state changes", changing.run),
    "beats": ("Heartbeats", beats.run),
    "batches": ("Batches of heartbeats", batches.run),
    "busy": ("Heartbeats and reads", busy.run),
    "loop": ("Event loop", loop.run),
    "memory": ("Memory", memory.run),
    "stalled": ("Stalled readers", stalled.run),
    "start": ("Start", start.run),
    "sdk": ("Agent SDK", sdk.run),
    "litellm": ("LiteLLM", litellm.run),
    "kafka": ("Kafka", kafka.run),
    "kubernetes": ("Kubernetes", kubernetes.run),
    "history": ("History", history.run),
    "pods": ("History of 10,000 pods", history.pods),
    "findings": ("Findings", findings.run),
    "brief": ("Brief", brief.run),
    "scrapes": ("Scrapes of the state", scrapes.run),
    "sizing": ("Sizing", sizing.run),
    "hour": ("Memory over an hour", memory.hour),
}
LONG = (
    "kafka",
    "litellm",
    "kubernetes",
    "history",
    "pods",
    "findings",
    "brief",
    "scrapes",
    "sizing",
    "hour",
)
DEFAULT = [name for name in BENCHES if name not in LONG]
NEEDED = {"wrk": "wrk", "nginx": "nginx-light"}


def main() -> int:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in BENCHES]:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(BENCHES)}")
    if missing := [package for program, package in NEEDED.items() if not shutil.which(program)]:
        print(f"install first: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    process.pin(process.LOAD_CORE)
    for line in _lines(args.names or DEFAULT, args.quick):
        print(line, flush=True)
    return 0


def _lines(names: Iterable[str], quick: bool) -> Iterator[str]:
    yield from machine()
    yield ""
    for name in names:
        title, run = BENCHES[name]
        note(f"{name} …")
        yield from table(title, run(quick))


sys.exit(main())
