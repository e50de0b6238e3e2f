"""The dashboard, as far as it can be checked without Grafana; tests/real/monitoring runs it."""

import json
import re
from pathlib import Path

import pytest

from telemetron.exposition.exposition import DROPPED
from telemetron.exposition.finished import Finished
from telemetron.exposition.sections import sections

FILE = Path(__file__).parents[3] / "deploy/kubernetes/components/monitoring/dashboard.json"
DASHBOARD = json.loads(FILE.read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
FAMILIES = [family for one in sections(Finished()).values() for family in one.families]
LABELS = {family.name: set(family.labels) for family in [*FAMILIES, DROPPED]}
OWN = {"telemetron_event_loop_lag_seconds_bucket"}  # of /metrics
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def targets(panel):
    return [target["expr"] for target in panel["targets"]]


EXPRESSIONS = [expr for panel in PANELS for expr in targets(panel)]


def test_it_can_be_imported_anywhere():
    assert DASHBOARD["uid"] == "telemetron-system"
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 36
    assert not {"__inputs", "__requires", "elements"} & DASHBOARD.keys()  # of exports, and of v2
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_its_variables_ask_only_for_our_metrics():
    assert VARIABLES["datasource"]["type"] == "datasource"
    for name, variable in VARIABLES.items():
        if name != "datasource":
            match = re.match(
                r"label_values\((telemetron_\w+)(\{.*\})?, (\w+)\)", variable["definition"]
            )
            assert match[3] in LABELS[match[1]]
            assert variable["query"]["query"] == variable["definition"]
            assert variable["datasource"] == SOURCE


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert defaults["noValue"]
    assert [panel["datasource"], *[one["datasource"] for one in panel["targets"]]] == [SOURCE] * (
        1 + len(panel["targets"])
    )
    assert all(target["legendFormat"] and target["refId"] for target in panel["targets"])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_query_uses_our_metrics_and_their_labels(expression):
    names = set(re.findall(r"telemetron_\w+", expression))
    assert names
    assert names <= LABELS.keys() | OWN
    labels = {label for name in names & LABELS.keys() for label in LABELS[name]}
    for group in re.findall(r" by \(([\w, ]+)\)", expression):
        assert set(group.split(", ")) <= labels | {"le"}
    for label in re.findall(r"[{,](\w+)=", expression):
        assert label in labels
    for window in re.findall(r"\[(.*?)\]", expression):
        assert window == "$__rate_interval"
    assert set(re.findall(r"\$(\w+)", expression)) <= {*VARIABLES, "__rate_interval"}


def test_each_metric_that_changes_is_shown():
    shown = set(re.findall(r"telemetron_\w+", " ".join(EXPRESSIONS)))
    hidden = {
        "telemetron_agent_info",  # for joins
        "telemetron_queue_unacknowledged",  # not of Kafka, which the demo uses
        "telemetron_model_limit_tokens_per_minute",
    }
    assert LABELS.keys() - shown == hidden


def test_no_panel_covers_another():
    seen = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not seen & cells, panel["title"]
        seen |= cells
