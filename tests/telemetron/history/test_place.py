from datetime import UTC, datetime, timedelta

import pytest

from telemetron.history.place import FIRST, LAST, Place, milliseconds, moment, parse

NOW = datetime(2030, 1, 6, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["1a2b.7", "1a2b.7-3", "0.0"])
def test_a_place_is_parsed_from_its_text(text):
    place = parse(text, NOW)
    assert isinstance(place, Place)
    assert str(place) == text


@pytest.mark.parametrize("text", ['W/"1a.7"', '"1a.7"', '"1a.7-gzip"', 'W/"1a.7-gzip"'])
def test_a_place_may_be_an_etag(text):
    assert parse(text, NOW) == Place("1a", 7)


def test_places_of_an_epoch_are_ordered_by_revision_and_step():
    texts = ["ab.9-2", "ab.10", "ab.9", "ab.10-1"]
    places = sorted((parse(text, NOW) for text in texts), key=lambda place: place.at)
    assert [str(place) for place in places] == ["ab.9", "ab.9-2", "ab.10", "ab.10-1"]


@pytest.mark.parametrize(
    ("text", "ago"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1.5s", 1.5)]
)
def test_a_duration_is_a_time_ago(text, ago):
    assert parse(text, NOW) == NOW - timedelta(seconds=ago)


def test_a_duration_before_year_1_is_the_first_time():
    assert parse("999999d", NOW) == datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("0001-01-01T00:00:00+14:00", FIRST),
        ("9999-12-31T23:59:59-14:00", LAST),
    ],
)
def test_a_time_out_of_range_is_the_first_or_last(text, at):
    assert parse(text, NOW) == at


@pytest.mark.parametrize(
    "text", ["2030-01-06T12:00:00+02:00", "2030-01-06T12:00:00 02:00", "2030-01-06T10:00:00Z"]
)
def test_a_time_has_a_zone(text):
    assert parse(text, NOW) == NOW


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "7", "5", "5 m", "-5m", "1a2b.", "1a2b.x", "AB.1", "2030-01-06T10:00:00"),
        *('""', 'W/""', '"5m"', '"1a.7', "W/1a.7", "*", '"1a.7", "1a.8"'),
    ],
)
def test_other_text_is_none(text):
    assert parse(text, NOW) is None


def test_times_are_in_milliseconds():
    at = datetime(2030, 1, 6, 10, 0, 0, 123000, tzinfo=UTC)
    assert moment(milliseconds(at)) == at
