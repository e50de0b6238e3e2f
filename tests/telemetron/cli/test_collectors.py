"""`telemetron collectors`, and sources whose collectors check their configuration."""

import json
from importlib.metadata import entry_points
from pathlib import Path

from tests.telemetron.cli.program import (
    on_terminal,
    spawn,
)

OURS = [point.name for point in entry_points(group="telemetron.collectors")]


def test_validate_reports_all_problems(tmp_path: Path, installed: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("""server: {prot: 1}
sources:
  good: {topics: ["${A}"], secs: 1}
  other: {collector: god, topics: ["${A}"]}
  broken:
  crashing: {collector: good, topics: [], seconds: 1.0}
""")
    done = spawn("validate", "--config", str(file), PYTHONPATH=installed)
    assert (done.stdout, done.exit_code) == ("", 78)
    assert [line.removeprefix(f"{file}:") for line in done.stderr.splitlines()] == [
        '1: server.prot: unknown key; did you mean "port"?'
        " (known: auth, host, port, probe_port, public_url, root_path, tls)",
        "3: sources.good.topics[0]: the environment variable A is not set",
        '3: sources.good.secs: unknown key; did you mean "seconds"? (known: seconds, topics)',
        "4: sources.other.topics[0]: the environment variable A is not set",
        '4: sources.other.collector: unknown collector; did you mean "good"?'
        f" (known: {', '.join(sorted(['broken', 'good', *OURS]))})",
        "5: sources.broken.collector: broken cannot be used:"
        " ModuleNotFoundError: No module named 'not_there'",
        "6: sources.crashing.collector: good cannot be used:"
        " ZeroDivisionError: float division by zero",
    ]


def test_installed_collectors_as_json(installed: str) -> None:
    done = spawn("collectors", PYTHONPATH=installed)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert list(found) == sorted(["broken", "good", *OURS])
    assert found["broken"] == {
        "name": "broken",
        "distribution": "fake 1.2",
        "problem": "ModuleNotFoundError: No module named 'not_there'",
    }
    assert found["good"] == {
        "name": "good",
        "distribution": "fake 1.2",
        "problem": None,
        "description": "Observes queues.",
        "sections": ["queues"],
        "paths": [],
        "config": [
            {
                "name": "topics",
                "type": "list of str",
                "required": True,
                "default": None,
                "description": "What is read.",
            },
            {
                "name": "seconds",
                "type": "float",
                "required": False,
                "default": 5.0,
                "description": "How often.",
            },
        ],
    }
    assert found["heartbeats"]["paths"] == ["/agents/"]


def test_installed_collectors_on_a_terminal(installed: str) -> None:
    lines = on_terminal("collectors", PYTHONPATH=installed).splitlines()
    assert lines[:8] == [
        "broken  (fake 1.2)",
        "  cannot be imported: ModuleNotFoundError: No module named 'not_there'",
        "",
        "good  (fake 1.2)",
        "  Observes queues.",
        "  sections: queues",
        "  topics: list of str, required. What is read.",
        "  seconds: float, default 5.0. How often.",
    ]
