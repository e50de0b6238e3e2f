"""docs/findings.md tells of each rule what the rule says of itself."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from telemetron.diagnosis.rules import RULES
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.document import Finding

TEXT = (Path(__file__).parents[2] / "docs" / "findings.md").read_text("utf-8")
PAGE = re.sub(r"\s+", " ", TEXT)


@pytest.mark.parametrize("name", sorted(RULES))
def test_each_rule_has_its_row_and_its_runbook(name: str) -> None:
    rule = RULES[name]
    holds = f"{rule.hold_seconds:g} s | {rule.clear_seconds:g} s"
    row = f"| [{name}](#{name.lower()}) | `{rule.section}` | {rule.severity} | {holds} |"
    assert row in PAGE
    for text in (rule.means, rule.looks_at, rule.action):
        assert text in PAGE


def test_no_rule_is_told_that_does_not_exist() -> None:
    assert set(re.findall(r"### (\w+)", PAGE)) == set(RULES)


def test_the_example_has_all_fields_of_a_finding() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert list(msgspec.json.decode(shown)) == list(Finding.__struct_fields__)
    finding = msgspec.json.decode(shown, type=Finding)
    assert finding.effect_count == len(finding.effects)


def test_the_configuration_is_valid() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    settings = msgspec.convert(yaml.safe_load(shown)["findings"], FindingsSettings)
    assert settings.rules.keys() <= RULES.keys()
    assert {one.rule for one in settings.ignore} <= RULES.keys()
