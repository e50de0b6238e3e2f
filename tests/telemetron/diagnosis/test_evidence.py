from datetime import UTC, datetime
from typing import Any

import pytest

from telemetron.diagnosis.evidence import MISSING, item, time_at, value_at
from telemetron.document import (
    Activity,
    Ended,
    LastExit,
    ModelDeployment,
    ModelError,
    Pod,
    Queue,
    Workload,
)
from telemetron.store.rope import Change, Fragment

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
POD = Pod(pod_id="w/0", status="Running", last_exit=LastExit(reason="OOMKilled", at=NOON))
WORKLOAD = Workload(deployment_name="w", namespace="prod", kind="Deployment", pods=[POD])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("deployment_name", "w"),
        (item("pods", "w/0", "last_exit/reason"), "OOMKilled"),
        (item("pods", "w/0", "last_exit/at"), "2030-01-01T12:00:00Z"),
        (item("pods", "w/0", "restarts"), None),
        (item("pods", "w/1", "restarts"), MISSING),
        ("pods", MISSING),
        ("nonsense", MISSING),
        ("live/ready", MISSING),
    ],
)
def test_a_value_is_that_of_the_document(path: str, value: Any) -> None:
    assert value_at(WORKLOAD, path) == value


def test_a_field_has_the_name_that_the_document_shows() -> None:
    error = ModelError(error_class="RateLimitError")
    model = ModelDeployment(id="1", model="m", status="unhealthy", last_error=error)
    assert value_at(model, "last_error/class") == "RateLimitError"


def test_the_name_of_an_item_is_escaped() -> None:
    assert item("pods", "w/0", "last_exit/at") == "pods/w~10/last_exit/at"
    assert item("pods", "w~0") == "pods/w~00"


def test_an_ended_task_is_named_by_id_and_time() -> None:
    activity = Activity(ended=[Ended("t/1", status="failed", ended_at=NOON), Ended("u")])
    assert value_at(activity, item("ended", "t/1@2030-01-01T12:00:00Z", "status")) == "failed"
    assert value_at(activity, item("ended", "u@-", "id")) == "u"


LATER = datetime(2030, 1, 1, 13, tzinfo=UTC)


def fragment(entity: Any) -> Fragment:
    """The entity as published, last changed at one o'clock."""
    return Fragment(b"", entity, b"2030-01-01T13:00:00Z", Change())


@pytest.mark.parametrize(
    ("entity", "path", "at"),
    [
        (WORKLOAD, item("pods", "w/0", "last_exit/reason"), NOON),
        (WORKLOAD, item("pods", "w/0", "last_exit/at"), NOON),
        (WORKLOAD, item("pods", "w/0", "status"), LATER),
        (WORKLOAD, "deployment_name", LATER),
        (Queue(name="q", depth=1, measured_at=NOON), "depth", NOON),
        (Queue(name="q", depth=1), "depth", None),
        (Queue(name="q", consumers=1, measured_at=NOON), "consumers", LATER),
        (Queue(name="q", consumed_at=NOON), "consumed_at", NOON),
        (ModelDeployment(id="1", model="m", status_since=NOON), "status", NOON),
        (ModelDeployment(id="1", model="m", status_since=NOON), "rpm", None),
    ],
)
def test_a_time_is_that_of_the_value(entity: Any, path: str, at: datetime | None) -> None:
    assert time_at(fragment(entity), path) == at
