"""Alerts: findings as Alertmanager groups, routes and silences them.

Labels identify an alert, so they are stable names; everything that changes is an annotation.
Findings of the same labels, such as those of several tasks of one agent, are one alert.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from telemetron.notifications.event import link
from telemetron.notifications.tracker import Reported

Alert = dict[str, Any]
"""An alert without `endsAt`, as `POST /api/v2/alerts` takes it."""


class Ended(Struct):
    """An alert that is over, and when it ended."""

    alert: Alert
    at: datetime


def identity(alert: Alert) -> str:
    """Return the labels as one text."""
    return "\0".join(f"{name}\0{value}" for name, value in sorted(alert["labels"].items()))


def alerts(reported: Iterable[Reported], system: str, url: str) -> dict[str, Alert]:
    """Return the active alerts by identity; the finding of the first rank describes each."""
    found: dict[str, list[Reported]] = {}
    for one in sorted(reported, key=lambda one: one.finding.rank):
        found.setdefault(identity({"labels": _labels(one, system)}), []).append(one)
    return {key: _alert(group, system, url) for key, group in found.items()}


def with_end(alert: Alert, at: datetime) -> Alert:
    """Return the alert with its end, which lies ahead while the alert is active."""
    return alert | {"endsAt": at}


def _alert(group: list[Reported], system: str, url: str) -> Alert:
    first = group[0]
    finding = first.finding
    more = f" (and {len(group) - 1} more)" if len(group) > 1 else ""
    return {
        "labels": _labels(first, system),
        "annotations": {
            "summary": finding.summary + more,
            "finding": finding.key,
            "effects": str(sum(one.finding.effect_count for one in group)),
            "runbook_url": finding.runbook,
        },
        "startsAt": min(one.at for one in group),
        "generatorURL": link(url, finding),
    }


def _labels(reported: Reported, system: str) -> dict[str, str]:
    named = {"alertname": reported.finding.rule, "severity": reported.severity, "system": system}
    return named | reported.labels


def forget(ended: dict[str, Ended], before: datetime, most: int) -> None:
    """Remove the ends before that time, and the oldest beyond `most`."""
    for key in [key for key, one in ended.items() if one.at < before]:
        del ended[key]
    while len(ended) > most:
        del ended[next(iter(ended))]


def report(
    active: Iterable[Alert], ended: Iterable[Ended], now: datetime, valid: float
) -> list[Alert]:
    """Return the alerts to send: active ones end after `valid` seconds unless sent again."""
    until = now + timedelta(seconds=valid)
    return [with_end(one, until) for one in active] + [with_end(one.alert, one.at) for one in ended]
