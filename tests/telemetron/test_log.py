"""Logging: text on a terminal, JSON elsewhere, and repetitions that are only counted."""

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from loguru import logger

from telemetron import log


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logged() -> Iterator[Callable[..., StringIO]]:
    """Configures logging to a stream of its own, and puts all back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def configure(level: str = "info", stream: Any = None, **options: Any) -> StringIO:
        stream = stream or StringIO()
        root.handlers.clear()  # pytest's own are not to be closed
        log.configure(level, stream, **options)
        return stream

    yield configure
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("telemetron", "telemetron_collectors"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").disabled = False
    logger.remove()
    logger.add(sys.stderr)


def lines(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    secret = "hunter2"
    raise ValueError(f"no {len(secret)}\x1b[31m")


def test_without_a_terminal_each_record_is_one_json_object(logged: Callable[..., StringIO]) -> None:
    stream = logged()
    logger.bind(source="kafka", tries=3, ratio=0.5, bad=float("nan"), what=[1]).info("a {}", "b")
    (line,) = lines(stream)
    time = line.pop("time")
    assert line == {
        "level": "info",
        "logger": __name__,
        "message": "a b",
        "source": "kafka",
        "tries": 3,
        "ratio": 0.5,
        "bad": "nan",
        "what": "[1]",
    }
    assert len(time) == len("2025-01-01T00:00:00.000Z")
    assert time.endswith("Z")


def test_an_extra_field_does_not_replace_a_standard_field(logged: Callable[..., StringIO]) -> None:
    stream = logged()
    logger.bind(level="x", message="y").info("said")
    assert (lines(stream)[0]["level"], lines(stream)[0]["message"]) == ("info", "said")


def test_an_exception_is_logged_without_variables(logged: Callable[..., StringIO]) -> None:
    stream = logged()
    try:
        fail()
    except ValueError:
        logger.exception("it failed")
    (line,) = lines(stream)
    assert line["exception"]["type"] == "ValueError"
    assert line["exception"]["message"] == "no 7\x1b[31m"
    assert "in fail" in line["exception"]["traceback"]
    assert "'hunter2'" not in stream.getvalue()


def test_a_terminal_is_readable_and_safe(logged: Callable[..., StringIO]) -> None:
    stream = logged("info", Terminal())
    logger.info("up")
    try:
        fail()
    except ValueError:
        logger.bind(agent="a\x1b]0;x\x07").exception("agent {} failed", "\x1b[2J\r\n<red>{x}")
    first, second, *trace = stream.getvalue().splitlines()
    assert first.endswith(f" INFO    {__name__}: up")
    assert second.endswith(
        f" \x1b[31mERROR  \x1b[0m {__name__}: agent \\x1b[2J\\r\\n<red>{{x}} failed"
        " agent=a\\x1b]0;x\\x07"
    )
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "ValueError: no 7\\x1b[31m"


def test_a_long_message_is_cut(logged: Callable[..., StringIO]) -> None:
    stream = logged()
    logger.info("x" * 1_000_000)
    assert len(stream.getvalue()) < log.MAX_MESSAGE + 200


def test_records_of_libraries_have_the_same_form(logged: Callable[..., StringIO]) -> None:
    stream = logged()
    logging.getLogger("kafka.client").warning("no %s", "broker")
    logging.getLogger("kafka.client").critical("gone")
    logging.getLogger("kafka.client").warning("no %d", "number")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    try:
        fail()
    except ValueError:
        logging.getLogger("asyncio").exception("task failed")
    found = [(line["level"], line["logger"], line["message"]) for line in lines(stream)]
    assert found[:3] == [
        ("warning", "kafka.client", "no broker"),
        ("error", "kafka.client", "gone"),
        ("warning", "kafka.client", "no %d"),
    ]
    assert found[3][:2] == ("warning", "py.warnings")
    assert "DeprecationWarning: old" in found[3][2]
    assert found[4] == ("error", "asyncio", "task failed")
    assert lines(stream)[4]["exception"]["type"] == "ValueError"


@pytest.mark.parametrize(
    ("level", "own", "library"),
    [
        ("trace", ["debug", "info", "warning", "error"], ["debug", "info", "warning", "error"]),
        ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_libraries_are_one_level_quieter(
    logged: Callable[..., StringIO], level: str, own: list[str], library: list[str]
) -> None:
    stream = logged(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("own")
        getattr(logging.getLogger("telemetron.web"), name)("standard")
        getattr(logging.getLogger("uvicorn.error"), name)("library")
        getattr(logging.getLogger("uvicorn.access"), name)("never")
    found = [(line["message"], line["level"]) for line in lines(stream)]
    assert [kind for message, kind in found if message == "own"] == own
    assert [kind for message, kind in found if message == "standard"] == own
    assert [kind for message, kind in found if message == "library"] == library
    assert all(message != "never" for message, _ in found)


def test_the_lowest_level_of_all(logged: Callable[..., StringIO]) -> None:
    stream = logged("trace")
    logger.trace("own")
    logging.getLogger("telemetron").log(5, "standard")
    assert [line["level"] for line in lines(stream)] == ["trace", "trace"]


def test_a_repeated_failure_is_written_once_then_counted(
    logged: Callable[..., StringIO],
) -> None:
    now = [0.0]
    stream = logged(monotonic=lambda: now[0])
    for second in range(13):
        logger.warning("retry in {} s", second / 3)
        logger.bind(source="other").warning("retry in {} s", second)
        logger.info("said each time")
    now[0] = 61
    logger.warning("retry in 5 s")
    logger.warning("kafka-1 is gone")
    logger.warning("kafka-2 is gone")
    found = [line["message"] for line in lines(stream) if line["level"] == "warning"]
    assert found == [
        "retry in 0.0 s",
        "retry in 0 s",
        "retry in 5 s (12 more in 60 s)",
        "kafka-1 is gone",
        "kafka-2 is gone",
    ]
    assert [line["level"] for line in lines(stream)].count("info") == 13


def test_repetitions_are_remembered_up_to_a_bound() -> None:
    now = [0.0]
    repeats = log.Repeats(window=60, limit=2, monotonic=lambda: now[0])
    assert repeats.admit("a") == 0
    assert repeats.admit("a") is None
    now[0] = 59.9
    assert repeats.admit("a") is None
    now[0] = 60
    assert repeats.admit("a") == 2
    assert repeats.admit("a") is None
    assert repeats.admit("b") == 0
    assert repeats.admit("c") == 0  # now a is forgotten
    assert repeats.admit("b") is None
    assert repeats.admit("a") == 0


def test_the_default_stream_is_standard_error() -> None:
    code = "from telemetron import log; log.configure('info')\n"
    code += "from loguru import logger; logger.info('here'); logger.debug('not')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == ""
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["here"]
