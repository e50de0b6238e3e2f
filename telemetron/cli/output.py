"""Output of the commands: standard output, errors of one line, and exit codes."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

FAILED = 1
BAD_CONFIG = 78  # EX_CONFIG of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def write(text: str | bytes, nl: bool = True) -> None:
    """Write to standard output, by default with a newline at the end."""
    if sys.stdout is None:
        fail(["cannot write the output: standard output is closed"])
    click.echo(text, nl=nl)


def fail(lines: Iterable[str], code: int = FAILED) -> NoReturn:
    """Write the errors to standard error, and exit."""
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)


def fail_to_start(lines: Iterable[str], code: int) -> NoReturn:
    """Report why the server does not start, as plain lines or in the log's format, and exit."""
    if sys.stderr is None or sys.stderr.isatty():
        fail(lines, code)
    from loguru import logger

    for line in lines:
        logger.error("{}", line)
    sys.exit(code)


def fail_by_bug() -> NoReturn:
    """Log the exception that is being handled, in the log's format, and exit."""
    from loguru import logger

    logger.exception("the server failed")
    sys.exit(FAILED)


def fail_unexpected(error: Exception) -> NoReturn:
    """Report an answer whose content is not as expected, and exit."""
    fail([f"unexpected response; is the server a newer version of Telemetron? {error}"])


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit quietly after Ctrl-C, and with one line if the output cannot be written."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click exits quietly: the program that reads our output has ended
        # Redirect the buffered output, or the interpreter fails to write it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail([f"cannot write the output: {error.strerror}"])


def duration(seconds: float) -> str:
    """Return a short age: `42s`, `12m`, `5h`, `3d`; `-7s` for a time more than 2 s ahead."""
    seconds = 0 if -2 < seconds < 0 else seconds
    sign = "-" if seconds < 0 else ""
    rest = abs(int(seconds))
    for size, unit, limit in ((1, "s", 100), (60, "m", 6_000), (3_600, "h", 172_800)):
        if rest < limit:
            return f"{sign}{rest // size}{unit}"
    return f"{sign}{rest // 86_400}d"
