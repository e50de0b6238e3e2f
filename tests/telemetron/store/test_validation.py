"""What may enter the store."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.document import (
    UNSTAMPED,
    Instance,
    Live,
    Member,
    ModelDeployment,
    Outcomes,
    Pod,
    Queue,
    Task,
    Workload,
)
from telemetron.store.validation import validated
from telemetron.text import MAX_TEXT, one_line

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def door(value: Any, type: Any = None) -> Any:
    return validated(value, msgspec.json.Decoder(type or value.__class__))


MODEL = ModelDeployment(id="a", model="m")


def test_a_valid_part_is_unchanged() -> None:
    part = AgentPart(
        instance=Instance(id="i", status="active", outcomes=Outcomes(1, 2, 3)),
        tasks=[Task(id="t", status="running", progressed_at=NOON)],
    )
    assert door(part) == part


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_become_null(number: float) -> None:
    assert door(replace(MODEL, tpm=number)).tpm is None


MISFITS = {
    "a number for a text": replace(MODEL, id=5),
    "a text for a number": replace(MODEL, rpm_max="many"),
    "a fraction for a whole": Queue(name="q", depth=1.5),
    "a time without a zone": replace(MODEL, status_since=datetime(2030, 1, 1)),  # noqa: DTZ001
    "an object": replace(MODEL, input_types=[object()]),
    "an integer of more than 64 bits": Queue(name="q", depth=2**63),
    "a lone surrogate": replace(MODEL, model="\ud800"),
    "a list beyond its bound": Queue(name="q", members=[Member(client_id="c")] * 17),
    "a text for a list": AgentPart(models="many"),
    "a negative partition": Queue(name="q", lagging=[{"partition": -1}]),
}


@pytest.mark.parametrize("value", MISFITS.values(), ids=MISFITS.keys())
def test_invalid_parts_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        door(value)


def test_a_recursive_part_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        door(replace(MODEL, input_types=endless))


@pytest.mark.parametrize("value", [None, 5, "text", [], {"id": "a"}])
def test_values_of_other_types_are_refused(value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        door(value, ModelDeployment)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ('"quoted" \\ back', '"quoted" \\ back'),
        ("two\nlines\tand", "two lines and"),
        ("bell\x07del\x7fc1\x85.", "belldelc1 ."),
        ("only\x7fdel", "onlydel"),
        ("\u202eright to left", "right to left"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("ärger 漢字 🎉", "ärger 漢字 🎉"),
        ("a\u3000b", "a b"),
        ("x" * MAX_TEXT, "x" * MAX_TEXT),
        ("x" * (MAX_TEXT + 1), "x" * (MAX_TEXT - 1) + "…"),
    ],
)
def test_text_is_one_line_without_control_characters(given: str, shown: str) -> None:
    assert door(replace(MODEL, model=given)).model == shown
    nested = door(Queue(name="q", members=[Member(client_id=given)], truncated={given: 1}))
    assert nested.members[0].client_id == shown
    assert nested.truncated == {shown: 1}


@pytest.mark.parametrize("hours", [-11, -5, 0, 9])
@pytest.mark.parametrize("minutes", [0, 23])
def test_times_are_in_utc(hours: int, minutes: int) -> None:
    zone = timezone(timedelta(hours=hours, minutes=minutes))
    shown = door(replace(MODEL, status_since=NOON.astimezone(zone))).status_since
    assert shown == NOON
    assert shown.tzinfo is UTC


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, 1, tzinfo=timezone(timedelta(hours=9))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-9))),
    ],
)
def test_times_at_the_ends_of_the_calendar_are_no_error(at: datetime) -> None:
    assert door(replace(MODEL, status_since=at)).status_since.tzinfo is UTC


def test_updated_at_of_a_collector_is_reset() -> None:
    part = Workload(
        deployment_name="d",
        namespace="n",
        kind="Deployment",
        live=Live(ready=1, updated_at=NOON),
        pods=[Pod(pod_id="p", status="Running", measured_at=NOON)],
        updated_at=NOON,
    )
    shown = door(part)
    assert shown == replace(part, live=Live(ready=1), updated_at=UNSTAMPED)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_the_fast_path_misses_nothing(value: str) -> None:
    assert door(replace(MODEL, model=value, id=value + ':12"')).model == one_line(value)


@given(st.lists(st.sampled_from([0, 1, 500, MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1]), max_size=6))
def test_long_texts_are_cut_wherever_they_are(lengths: list[int]) -> None:
    names = ["x" * length for length in lengths]
    kept = [name if len(name) <= MAX_TEXT else one_line(name) for name in names]
    part = AgentPart(models=names, queues=["q"], description="d")
    assert door(part) == replace(part, models=kept)
