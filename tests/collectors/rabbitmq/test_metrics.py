"""The text format of a node's counts, against the reader of prometheus_client."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from telemetron_collectors.rabbitmq.metrics import parse

NAMES = st.text(st.sampled_from('ab"\\\n,{}= é/#'), min_size=1, max_size=8)
ROWS = st.dictionaries(
    st.tuples(NAMES, NAMES, st.sampled_from(["messages_ready", "consumers", "messages"])),
    st.integers(0, 10**12),
    max_size=10,
)
METRICS = {
    "messages_ready": "ready",
    "messages_unacked": "unacknowledged",
    "consumers": "consumers",
    "messages": None,
}


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@given(ROWS)
def test_every_name_and_count_is_read(counts: dict[tuple[str, str, str], int]) -> None:
    page = "".join(
        f'rabbitmq_detailed_queue_{metric}{{vhost="{escaped(vhost)}",queue="{escaped(queue)}"}}'
        f" {count}\n"
        for (vhost, queue, metric), count in counts.items()
    )
    found = {
        (vhost, queue, field): value
        for (vhost, queue), row in parse(page.encode()).queues.items()
        for field, value in row._asdict().items()
        if value is not None
    }
    theirs = {
        (sample.labels["vhost"], sample.labels["queue"], field): int(sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if (field := METRICS[sample.name.removeprefix("rabbitmq_detailed_queue_")])
    }
    assert found == theirs


def test_the_node_is_named() -> None:
    assert parse(b'rabbitmq_identity_info{rabbitmq_node="a@x",rabbitmq_cluster="x"} 1\n').node == (
        "a@x"
    )
    assert parse(b"").node is None
