"""The benchmarks run; their figures need a quiet machine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

needs_wrk = pytest.mark.skipif(
    not (shutil.which("wrk") and shutil.which("nginx")), reason="wrk and nginx make the load"
)


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)


@needs_wrk
def test_a_row_is_measured_against_its_limits():
    done = bench("reads", "--quick")
    assert done.returncode == 0, done.stderr
    row = re.search(
        r"\| read, \d+ kB, against bare \| ([\d.]+) × \(([\d,]+) of ([\d,]+) /s;"
        r" nginx ([\d,]+) /s; CPU (\d+) of (\d+) µs\) \| ≥ 0.9 × \| (yes|\*\*no\*\*) \|",
        done.stdout,
    )
    assert row, done.stdout
    assert all(float(figure.replace(",", "")) > 0 for figure in row.groups()[:6])
    assert (float(row[1]) >= 0.9) == (row[7] == "yes")


def test_an_unknown_name_is_refused_with_the_known_ones():
    done = bench("nonsense")
    assert done.returncode == 2
    assert "no benchmark nonsense; there are reads, " in done.stderr


def test_a_missing_program_is_reported_with_its_package(tmp_path):
    command = [sys.executable, "-m", "bench"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=ROOT, env={"PATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert "apt-get install wrk nginx-light" in done.stderr
