"""The times that producers write."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_collectors.kafka.times import FIRST, LAST, of_record, parse_time

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECONDS = 1_769_860_800


@pytest.mark.parametrize(
    "value",
    [
        SECONDS,
        SECONDS * 10**3,
        SECONDS * 10**6,
        SECONDS * 10**9,
        float(SECONDS),
        SECONDS * 1e9,
        "1769860800",
        " 1769860800 ",
        "1769860800.0",
        "1769860800000",
        "1769860800000000",
        "1769860800000000000",
        "1.7698608e9",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00",
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00.000000000Z",
        "2026-01-31T12:00:00,000Z",
        "2026-01-31T13:00:00+01:00",
        "2026-01-31T13:00:00+0100",
        "2026-01-31T13:00:00+01",
        "2026-01-31 13:00:00 +0100",
        "2026-01-31T17:30:00+05:30",
        "2026-01-31T07:00:00-05:00",
        "2026-01-31T13:00:00+01:00[Europe/Paris]",
        "2026-01-31T12:00:00Z[UTC]",
        "2026-01-31 12:00:00 UTC",
        "20260131T120000Z",
        "2026-W05-6T12:00:00Z",
        "Sat, 31 Jan 2026 12:00:00 GMT",
        "31 Jan 2026 12:00 +0000",
        "Sat, 31 Jan 2026 13:00:00 +0100",
        "Sat, 31 Jan 2026 07:00:00 EST",
        b"1769860800",
        (SECONDS * 1000).to_bytes(8, "big"),
    ],
    ids=repr,
)
def test_every_usual_form_is_parsed(value: Any) -> None:
    assert parse_time(value) == NOON


def test_bytes_that_may_be_text_are_not_a_number() -> None:
    nanoseconds = 0x1871010101010101
    assert parse_time(nanoseconds.to_bytes(8, "big")) == parse_time(nanoseconds)
    assert parse_time(b"20260131") == parse_time("20260131")


def test_a_date_is_its_midnight_in_utc() -> None:
    midnight = NOON.replace(hour=0)
    assert parse_time("2026-01-31") == parse_time("20260131") == midnight


def test_fractions_are_cut_to_milliseconds() -> None:
    expected = NOON.replace(microsecond=123_000)
    assert parse_time("2026-01-31T12:00:00.123999Z") == expected
    assert parse_time("2026-01-31T12:00:00.123999999Z") == expected
    assert parse_time(SECONDS * 10**9 + 123_999_999) == expected
    assert parse_time(f"{SECONDS}.123999") == expected
    assert parse_time(SECONDS + 0.1235) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [],
        {},
        "",
        "yesterday",
        "12:00",
        "2026",
        "20260131120000",
        "2026-13-01T00:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+99:00",
        "Sat, 31 Jan 2026 12:00:00 CET",  # not one of RFC 822's zones: an hour would be lost
        "1999-12-31T23:59:59Z",
        "2100-01-01T00:00:01Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9" * 10_000,
        "١٧٦٩٨٦٠٨٠٠",
        0,
        -SECONDS,
        SECONDS / 1000,
        SECONDS * 10,
        SECONDS * 10**12,
        10**400,
        float("inf"),
        float("nan"),
        b"\xff\xfe",
        b"\0" * 8,
        b"\0" * 7,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_implausible_times_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_time(value)


@given(
    st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None) - timedelta(days=2)),
    st.integers(-14 * 60, 14 * 60),
)
def test_all_forms_of_one_time_agree(naive: datetime, offset: int) -> None:
    at = naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=UTC)
    if at < FIRST + timedelta(days=1):
        return
    elsewhere = at.astimezone(timezone(timedelta(minutes=offset)))
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    forms = [at.isoformat(), elsewhere.isoformat(), at.replace(tzinfo=None).isoformat()]
    numbers = [milliseconds, milliseconds * 1000, milliseconds * 1_000_000]
    for form in [*forms, *numbers, *map(str, numbers)]:
        assert parse_time(form) == at
    assert parse_time(milliseconds / 1000) - at < timedelta(milliseconds=1)
    assert parse_time(format_datetime(elsewhere)) == at.replace(microsecond=0)
    assert of_record(milliseconds) == at


@given(st.text(max_size=70) | st.binary(max_size=10) | st.integers() | st.floats())
def test_a_time_is_plausible_or_refused(value: Any) -> None:
    try:
        made = parse_time(value)
    except ValueError:
        return
    assert FIRST <= made <= LAST
