"""Output that cannot be written, and terminals and pipes that end."""

import subprocess
import sys

import pytest

from telemetron.cli.output import duration
from tests.telemetron.cli.program import SECONDS, beat, environment, on_terminal


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (0, "0s"),
        (-1.9, "0s"),
        (-7, "-7s"),
        (99.9, "99s"),
        (100, "1m"),
        (5_999, "99m"),
        (6_000, "1h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_an_age_is_short(seconds: float, age: str) -> None:
    assert duration(seconds) == age


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf8_shows_escapes(server: str, encoding: str) -> None:
    beat(server, "odd", tasks=[{"id": "t1", "step": "reads 日本"}])
    shown = on_terminal("state", "--url", server, PYTHONIOENCODING=encoding)
    assert r"reads \u65e5\u672c" in shown


def test_a_closed_pipe_ends_the_command_quietly(server: str) -> None:
    command = f'"{sys.executable}" -m telemetron state --url {server} | true'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=SECONDS, env=environment()
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    [["schema"], ["collectors"], ["validate"], ["state"], ["changes", "--since", "0s"]],
    ids=lambda command: command[0],
)
def test_output_that_cannot_be_written_is_one_line(server: str, command: list[str]) -> None:
    run = [sys.executable, "-m", "telemetron", *command]
    for into, said in ((">/dev/full", "No space left on device"), (">&-", "standard output is cl")):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {into}', "sh", *run],
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            env=environment(TELEMETRON_URL=server),
        )
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"cannot write the output: {said}")
        assert done.returncode == 1


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["state", "--help"]])
def test_help_that_cannot_be_written_is_one_line(command: list[str]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, "-m", "telemetron", *command],
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        env=environment(),
    )
    assert done.stderr == "cannot write the output: No space left on device\n"
    assert done.returncode == 1
