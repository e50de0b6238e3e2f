"""Findings of the same labels are one alert; ends are kept for a while."""

from datetime import timedelta

from telemetron.notifications.alerts import Ended, alerts, forget, report
from telemetron.notifications.tracker import Reported
from tests.telemetron.notifications.stage import BEGAN, URL, finding


def reported(rank: int, minutes: int, severity: str = "critical") -> Reported:
    since = BEGAN + timedelta(minutes=minutes)
    one = finding(rank=rank, since=since, severity=severity)
    return Reported(one, since, severity, (), {"section": "queues", "queue": "plans"})


def test_findings_of_the_same_labels_are_one_alert_since_the_first_of_them() -> None:
    (alert,) = alerts([reported(2, 0), reported(1, 5)], "atlas", URL).values()
    assert alert["annotations"]["summary"] == "Nobody reads plans (and 1 more)"
    assert alert["startsAt"] == BEGAN


def test_another_severity_is_another_alert() -> None:
    found = alerts([reported(1, 0), reported(2, 0, "warning")], "atlas", URL)
    assert [one["labels"]["severity"] for one in found.values()] == ["critical", "warning"]


def test_an_active_alert_ends_later_and_an_ended_one_ended_then() -> None:
    alert = {"labels": {}}
    sent = report([alert], [Ended(alert, BEGAN)], BEGAN + timedelta(minutes=1), 120)
    assert [one["endsAt"] for one in sent] == [BEGAN + timedelta(minutes=3), BEGAN]


def test_ends_are_forgotten_by_age_and_by_number() -> None:
    ended = {str(minutes): Ended({}, BEGAN + timedelta(minutes=minutes)) for minutes in range(6)}
    forget(ended, BEGAN + timedelta(minutes=2), 3)
    assert list(ended) == ["3", "4", "5"]
