"""Incidents by hand: `python -m tests.real.incidents list | hold NAME | check [NAME …]`."""

import argparse
import asyncio
import signal
import sys
import time
from concurrent.futures import as_completed
from contextlib import suppress

import msgspec

from tests.real.incidents.catalog import SCENARIOS
from tests.real.incidents.play import Report, Run, Stage, play, playing
from tests.real.incidents.pool import AT_ONCE, pool

HOLD_SECONDS = 15 * 60.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser("python -m tests.real.incidents", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name all scenarios")
    hold = commands.add_parser("hold", help="play one, print its URL once it shows, and hold it")
    check = commands.add_parser("check", help="play these or all, and judge their findings")
    played = commands.add_parser("play", help="play one, and print the report as JSON")
    for one in (hold, played):
        one.add_argument("name", choices=SCENARIOS, metavar="NAME")
    check.add_argument("names", nargs="*", metavar="NAME")
    check.add_argument("--at-once", type=int, default=AT_ONCE, help="so many at a time")
    hold.add_argument("--port", type=int, help="Telemetron's port; else a free one")
    hold.add_argument("--seconds", type=float, default=HOLD_SECONDS, help="how long to hold it")
    for one in (hold, check, played):
        one.add_argument("--noise", action="store_true", help="with harmless disorder around it")
    for one in (check, played):
        one.add_argument("--restart", help="end Telemetron by this signal, as SIGKILL, and go on")
        one.add_argument("--history", action="store_true", help="with a history file")
    return made


def print_all() -> int:
    """Print a line for each scenario."""
    for one in SCENARIOS.values():
        roots = "; ".join(f"{ref.key} {ref.item or ''}".strip() for ref in one.roots) or "-"
        print(f"{one.name:24} {one.severity:8} {roots:52} {one.story.splitlines()[0]}")
    return 0


async def hold(run: Run, port: int | None, seconds: float) -> int:
    """Play it, then go on until it is over."""
    async with playing(SCENARIOS[run.name], port) as world:
        missing = await Stage(world, run).begin()
        print(world.service.url, *[f"\nnot shown: {what}" for what in missing], flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await world.tick()
    return 0


def check(runs: list[Run], at_once: int) -> int:
    """Play all and print what came of each; return whether anything was wrong."""
    failed = 0
    with pool(at_once) as playing:
        playing.add(runs)
        for future in as_completed(playing.reports.values()):
            report = future.result()
            print(line(report), flush=True)
            failed += bool(report.faults)
    return min(1, failed)


def line(report: Report) -> str:
    """Return one line, and more if something is wrong."""
    seconds = " ".join(f"{name} {said:.0f} s" for name, said in report.seconds.items())
    verdict = "WRONG" if report.faults else "right"
    lines = [f"{report.run!s:36} {verdict} {seconds}, {report.bytes} bytes"]
    if len(report.course) > 2:  # more than that it was not yet raised, then was
        lines += report.course
    lines += [f"told before its root: {one}" for one in report.early]
    if report.faults:
        lines += [report.text(), msgspec.json.encode(report.findings).decode()]
    return "\n".join(lines)


async def until_terminated(work: "asyncio.Future[int]") -> int:
    """Await it; SIGTERM ends it as Ctrl-C does, with everything that it started."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def print_report(run: Run) -> int:
    """Play it and print the report."""
    report = await play(run)
    sys.stdout.buffer.write(msgspec.json.encode(report))
    return 0


def main() -> int:
    """Do what the command line says."""
    asked = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if asked.command == "list":
        return print_all()
    if asked.command == "check":
        if unknown := {*asked.names} - SCENARIOS.keys():
            sys.exit(f"no scenarios: {', '.join(sorted(unknown))}")
        names = asked.names or SCENARIOS
        how = asked.noise, asked.restart, asked.history
        return check([Run(one, *how) for one in names], asked.at_once)
    if asked.command == "play":
        work = print_report(Run(asked.name, asked.noise, asked.restart, asked.history))
    else:
        work = hold(Run(asked.name, asked.noise), asked.port, asked.seconds)
    return asyncio.run(until_terminated(work))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(main())
    sys.exit(1)
