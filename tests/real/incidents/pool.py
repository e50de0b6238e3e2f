"""Plays at once: each in a process of its own, as many at a time as the machine can bear."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.real.incidents.play import Report, Run

ROOT = Path(__file__).parents[3]
AT_ONCE = 10
RUN_SECONDS = 400


class Pool:
    """Plays runs; `reports` has what comes of each."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._executor = ThreadPoolExecutor(at_once)
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.reports: dict[Run, Future[Report]] = {}

    def add(self, runs: Iterable[Run]) -> None:
        """Play these when their turn comes."""
        for run in runs:
            self.reports[run] = self._executor.submit(self._play, run)

    def close(self) -> None:
        """End what is still played."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in [*self._processes]:
            process.terminate()
        self._executor.shutdown()

    def _play(self, run: Run) -> Report:
        command = [sys.executable, "-m", "tests.real.incidents", "play", *arguments(run)]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=ROOT, stdout=pipe, stderr=pipe, start_new_session=True
        ) as process:
            self._processes.add(process)
            try:
                out, error = process.communicate(timeout=RUN_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                out, error = process.communicate()
            finally:
                self._processes.discard(process)
        if process.returncode:
            return Report(run, faults=[f"it could not be played: {error.decode()[-3000:]}"])
        return msgspec.json.decode(out, type=Report)


def arguments(run: Run) -> Iterator[str]:
    """Yield the arguments of the command line for a run."""
    yield run.name
    if run.noise:
        yield "--noise"
    if run.restart:
        yield f"--restart={run.restart}"
    if run.history:
        yield "--history"


@contextmanager
def pool(at_once: int = AT_ONCE) -> Iterator[Pool]:
    """A pool, ended with the context."""
    made = Pool(at_once)
    try:
        yield made
    finally:
        made.close()
