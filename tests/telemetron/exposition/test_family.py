import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from telemetron.exposition.family import (
    Family,
    SectionSeries,
    counts,
    labels,
    moment,
    single,
    states,
)
from tests.telemetron.answers.brief.made import ago

FAMILY = Family("telemetron_thing", ("name", "kind"), "A thing.")
SERIES = SectionSeries((FAMILY,), lambda pair: labels(name=pair[0]), lambda pair: [pair[1]])
# All that text may contain, even what the store strips.
HOSTILE = st.text(st.characters(codec="utf-8"), max_size=40) | st.text(
    st.sampled_from('\\"\n\r{},=# \t\x00\u2028é'), max_size=20
)


@given(name=HOSTILE, kinds=st.dictionaries(HOSTILE, st.integers(-(2**53), 2**53), max_size=4))
@pytest.mark.parametrize("is_open", [True, False])
def test_any_text_is_read_back_as_it_was(name, kinds, is_open):
    lines = SERIES.lines((name, counts("kind", kinds)))
    header = FAMILY.open_header if is_open else FAMILY.text_header
    text = (header.text + lines.texts[0] + (b"# EOF\n" if is_open else b"")).decode()
    (family,) = (open_metrics if is_open else prometheus)(text)
    read = {(one.labels["name"], one.labels["kind"]): one.value for one in family.samples}
    assert read == {(name, kind): number for kind, number in kinds.items()}
    assert lines.series == len(kinds)


def test_what_utf_8_cannot_encode_is_replaced():
    assert SERIES.lines(("\ud800", single(1))).texts == (b'telemetron_thing{name="?"} 1\n',)


def test_a_header_names_the_family_as_each_format_wants():
    counter = Family("telemetron_ends_total", (), "Ends.", "counter")
    time = Family("telemetron_end_timestamp_seconds", (), "When it ended.")
    assert counter.text_header.text.startswith(b"# HELP telemetron_ends_total Ends.\n# TYPE")
    assert counter.open_header.text.startswith(b"# TYPE telemetron_ends counter\n# HELP")
    assert b"# UNIT telemetron_end_timestamp_seconds seconds\n" in time.open_header.text
    assert b"UNIT" not in time.text_header.text + counter.open_header.text


def test_an_unknown_value_has_no_sample():
    assert [single(None), moment(None), states("status", ("a",), None)] == [(), (), ()]
    assert moment(ago(0)) == (("", 1893922902.123456),)


def test_one_state_is_1_and_the_others_are_0():
    assert states("status", ("a", "b"), "b") == ((',status="a"', 0), (',status="b"', 1))
    assert states("status", ("a",), "new") == ((',status="a"', 0), (',status="new"', 1))
