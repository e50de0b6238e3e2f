"""The alerts and the recording rules, as Prometheus' own tool judges them."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.deploy.kustomize import DEPLOY
from tests.real.monitoring.prometheus import COMPONENTS, RULES, require

TESTS = Path(__file__).with_name("alerts.yaml")
DOCS = DEPLOY.parents[1] / "docs"


def groups() -> list[Any]:
    files = [yaml.safe_load((COMPONENTS / name).read_text("utf-8")) for name in RULES]
    return [group for file in files for group in file["spec"]["groups"]]


ALERTS = [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def promtool(folder: Path, *arguments: str, given: str | None = None) -> str:
    require("promtool")
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `rules.yaml` has the groups of all PrometheusRules."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    return tmp_path


def test_the_rules_are_valid(folder: Path) -> None:
    promtool(folder, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_each_alert_fires_and_stays_quiet_when_it_should(folder: Path) -> None:
    (folder / "alerts.yaml").write_text(TESTS.read_text("utf-8"))
    promtool(folder, "test", "rules", "alerts.yaml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_has_tests_of_both_a_summary_and_a_runbook(alert: Any) -> None:
    tests = yaml.safe_load(TESTS.read_text("utf-8"))["tests"]
    name = alert["alert"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    fires = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
    assert fires == {True, False}
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page in ("docs/deployment.md", "docs/findings.md")
    if page == "docs/deployment.md":
        assert anchor == name.lower()
        assert f"### {name}\n" in (DOCS / "deployment.md").read_text("utf-8")


async def test_the_metrics_follow_prometheus_conventions(live: Any, tmp_path: Path) -> None:
    beat = {"instance": "i", "tasks": [{"id": "t"}], "outcomes": {"completed": 1}}
    await live.client.post("/agents/planner/heartbeat", json=beat)
    for path in ("/metrics", "/metrics/state"):
        page = (await live.client.get(path)).text
        assert "telemetron_" in page
        if path == "/metrics/state":  # the names of the process collector are not ours
            assert promtool(tmp_path, "check", "metrics", given=page) == ""


def test_the_metrics_that_the_rules_use_exist() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    for group in groups():
        for rule in group["rules"]:
            for name in re.findall(r"\btelemetron_\w+", rule["expr"]):
                base = name.removesuffix("_bucket").removesuffix("_count")
                assert f"`{base}`" in page, name
