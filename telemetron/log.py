"""Logging: one line for each record, as text on a terminal, otherwise as JSON.

Repeated warnings and errors are counted instead of written. Records of libraries have the same
form, but have to be one level more severe than Telemetron's own.
"""

import json
import logging
import math
import os
import re
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC
from typing import TYPE_CHECKING, TextIO

from telemetron.text import cut, printable

if TYPE_CHECKING:
    from loguru import Message, Record

REPEAT_SECONDS = 60
MAX_REPEATS = 1_000
MAX_MESSAGE = 4_096
MAX_TRACEBACK = 20_000

_OWN = {"trace": 5, "debug": 10, "info": 20, "warning": 30, "error": 40}
# The least severe record of a library that is written, by Telemetron's own level.
_LIBRARIES = {
    "trace": logging.DEBUG,
    "debug": logging.INFO,
    "info": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LEVELS = {"ERROR": 40, "WARNING": 30, "INFO": 20, "DEBUG": 10}
_COLOURS = {"WARNING": ("\x1b[33m", "\x1b[0m"), "ERROR": ("\x1b[31m", "\x1b[0m")}
_NUMBER = re.compile(r"(?<![\w-])\d+(\.\d+)?")


class Repeats:
    """Admit each key once in a window of time, and count its repetitions.

    At most `limit` keys are remembered; the oldest is forgotten first.
    """

    def __init__(
        self,
        window: float = REPEAT_SECONDS,
        limit: int = MAX_REPEATS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window
        self._limit = limit
        self._monotonic = monotonic
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def admit(self, key: Hashable) -> int | None:
        """Return the repetitions since the key was last admitted; None to hold back this one."""
        now = self._monotonic()
        first, held = self._seen.get(key, (-self._window, 0))
        if key in self._seen and now - first < self._window:
            self._seen[key] = (first, held + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return held


def configure(
    level: str, stream: TextIO | None = None, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Write all records from `level` on (`trace`, `debug`, `info`, `warning`, `error`) to `stream`.

    The default stream is standard error. This replaces the handlers of loguru, `logging` and
    `warnings` in the whole process.
    """
    from loguru import logger

    out = stream or sys.stderr or open(os.devnull, "w")  # noqa: SIM115  (stderr was closed)
    render = _terminal if out.isatty() else _json
    repeats = Repeats(monotonic=monotonic)

    def write(message: "Message") -> None:
        text = _text(message.record, repeats)
        if text is not None:
            out.write(render(message.record, text) + "\n")
            out.flush()

    logger.remove()
    logger.add(write, level=level.upper(), format="", backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=_LIBRARIES[level], force=True)
    logging.captureWarnings(True)
    for name in ("telemetron", "telemetron_collectors"):
        logging.getLogger(name).setLevel(_OWN[level])
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True


class _Intercept(logging.Handler):
    """Pass the records of `logging` on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        from loguru import logger

        try:
            message = record.getMessage()
        except Exception:  # the arguments do not fit the message: log it without them
            message = str(record.msg)
        level = next(
            (name for name, number in _LEVELS.items() if record.levelno >= number), "TRACE"
        )
        error = record.exc_info if record.exc_info and record.exc_info[1] else None

        def name(made: "Record") -> None:
            made["name"] = record.name

        logger.patch(name).opt(exception=error).log(level, "{}", message.strip())


def _text(record: "Record", repeats: Repeats) -> str | None:
    """Return the message to write; None if the record is a repetition."""
    message = cut(printable(record["message"]), MAX_MESSAGE)
    if record["level"].no < logging.WARNING:
        return message
    error = record["exception"]
    template = _NUMBER.sub("#", f"{message} {record['extra']}")
    held = repeats.admit((record["name"], record["level"].name, template, error and error.type))
    if held is None:
        return None
    return f"{message} ({held} more in {REPEAT_SECONDS} s)" if held else message


def _terminal(record: "Record", text: str) -> str:
    level = record["level"].name
    colour, plain = _COLOURS.get(level, ("", ""))
    extra = "".join(f" {printable(f'{key}={value}')}" for key, value in record["extra"].items())
    line = f"{record['time']:%H:%M:%S} {colour}{level:<7}{plain} {record['name']}: {text}{extra}"
    trace = _traceback(record).splitlines()
    return "\n".join([line, *map(printable, trace)])


def _json(record: "Record", text: str) -> str:
    error = record["exception"]
    extra = {key: _plain(value) for key, value in record["extra"].items()}
    line = extra | {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": record["level"].name.lower(),
        "logger": record["name"],
        "message": text,
    }
    if error and error.type:
        line["exception"] = {
            "type": error.type.__name__,
            "message": str(error.value)[:MAX_MESSAGE],
            "traceback": _traceback(record),
        }
    return json.dumps(line)


def _traceback(record: "Record") -> str:
    """Return the end of the traceback, the most useful part; without local variables."""
    error = record["exception"]
    return "".join(traceback.format_exception(*error))[-MAX_TRACEBACK:] if error else ""


def _plain(value: object) -> object:
    finite = isinstance(value, float) and math.isfinite(value)
    return value if finite or isinstance(value, str | int | None) else str(value)
