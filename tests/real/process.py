"""Real servers as child processes: a cache outside the checkout, an end for each."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telemetron-real"
"""What is built or fetched once, and right from empty."""

STOP_SECONDS = 10


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Alone with what is cached under that name, among all processes of this machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def wait_until(true: Callable[[], bool], *, seconds: float, what: str) -> None:
    """For what tells nobody when it is ready: asks ten times a second; TimeoutError names it."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not ready within {seconds:g} s")
        time.sleep(0.1)


@contextmanager
def running(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that is ended, and if need be killed, with the context; thawed first if frozen."""
    out = log.open("ab") if log else subprocess.DEVNULL
    environ = {**os.environ, **(env or {})}
    process = subprocess.Popen(
        command, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if log:
            out.close()  # type: ignore[union-attr]
