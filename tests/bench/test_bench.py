"""The benchmarks run; their figures need a quiet machine."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=ROOT, env=env or None
    )


def test_a_figure_is_measured_against_its_goal() -> None:
    done = bench("start", "--quick")
    assert done.returncode == 0, done.stderr
    row = re.search(
        r"\| start to first 200 on /livez \| ([\d.]+) s .*\| ≤ ([\d.]+) s \| (yes|\*\*no\*\*) \|",
        done.stdout,
    )
    assert row, done.stdout
    assert (float(row[1]) <= float(row[2])) == (row[3] == "yes")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    done = bench("nonsense")
    assert done.returncode == 2
    assert "no benchmark nonsense; there are reads, " in done.stderr


def test_a_group_without_its_programs_is_named_and_no_failure(tmp_path: Path) -> None:
    done = bench("beats", "kafka", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "not measured: beats, without wrk",
        "not measured: kafka, without java",
    ]
