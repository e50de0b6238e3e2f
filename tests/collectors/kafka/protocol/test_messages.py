"""Recorded responses of Apache Kafka 4.3.1, and malformed ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_collectors.kafka.protocol import messages as ask
from telemetron_collectors.kafka.protocol.messages import (
    ClusterMetadata,
    Commit,
    Commits,
    GroupListing,
    Offset,
    TopicInfo,
)
from telemetron_collectors.kafka.protocol.wire import (
    ResponseBody,
    text,
)

RECORDED = {
    name: ResponseBody(version, bytes.fromhex(data))
    for name, (version, data) in json.loads(
        (Path(__file__).parent / "recorded.json").read_text()
    ).items()
}


def test_metadata_contains_topic_ids() -> None:
    metadata = ask.parse_metadata(RECORDED["metadata"])
    (address,) = metadata.brokers.values()
    assert (list(metadata.brokers), address.host) == ([1], "127.0.0.1")
    assert metadata.topics == {
        "tasks": TopicInfo("650e6062e46d4e2eaa0987039abee73a", 0, (1, 1)),
        "missing": TopicInfo("", ask.UNKNOWN_TOPIC, ()),
    }


def test_groups_are_listed_with_their_types() -> None:
    assert ask.parse_groups(RECORDED["groups"]) == (
        0,
        [
            GroupListing("new", "consumer"),
            GroupListing("classic", "classic"),
            GroupListing("shared", "share"),
        ],
    )


def test_commits_of_classic_and_share_groups() -> None:
    commits = ask.parse_commits(RECORDED["commits"])
    assert commits == Commits(0, {"tasks": {0: Commit(-1), 1: Commit(1)}})
    assert ask.parse_commits(RECORDED["all_commits"]).topics == {"tasks": {1: Commit(1)}}
    shared = ask.parse_share_offsets(RECORDED["share_offsets"])
    assert shared.topics == {"tasks": {0: Commit(-1), 1: Commit(-1)}}
    assert ask.parse_coordinator(RECORDED["coordinator"]) == (0, 1)


def test_ends_and_records_of_a_log() -> None:
    ends = ask.parse_offsets(RECORDED["ends"])
    assert ends == {"tasks": {0: Offset(0, 11), 1: Offset(0, 11)}}
    error, topics = ask.parse_fetched(RECORDED["fetched"])
    fetched = topics["tasks"][0]
    assert (error, fetched.error, fetched.last_stable, fetched.aborted) == (0, 0, 11, [])
    assert fetched.records.count(b"{}") == 11


def test_a_commit_may_have_metadata() -> None:
    entry = b"\x00\x00\x00\x01" + b"\x00" * 7 + b"\x05" + text("m") + b"\x00\x00"
    data = b"\x00" * 4 + b"\x00\x00\x00\x01" + text("t") + b"\x00\x00\x00\x01" + entry + b"\x00\x1e"
    assert ask.parse_commits(ResponseBody(3, data)) == Commits(
        ask.GROUP_DENIED, {"t": {1: Commit(5)}}
    )


def test_responses_of_older_brokers_lack_ids_and_types() -> None:
    broker = b"\x00\x00\x00\x07" + text("h") + b"\x00\x00\x23\x84" + b"\xff\xff"
    empty = b"\x00\x00\x00\x00"
    partition = b"\x00\x00" + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x07" + empty * 3
    topic = b"\x00\x00" + text("t") + b"\x00" + b"\x00\x00\x00\x01" + partition
    one = b"\x00\x00\x00\x01"
    data = empty + one + broker + b"\xff\xff" + empty + one + topic
    assert ask.parse_metadata(ResponseBody(5, data)) == ClusterMetadata(
        {7: ask.Address("h", 9092)}, {"t": TopicInfo("", 0, (7,))}
    )
    data = empty + b"\x00\x00" + one + text("g") + text("consumer")
    assert ask.parse_groups(ResponseBody(2, data)) == (0, [GroupListing("g", "classic")])


def test_metadata_requests_create_no_topic() -> None:
    for version in ask.metadata(["t"]).versions:
        encoded = version.encode()
        allowed = encoded[-4:-1] if version.flexible else encoded[-1:]
        assert set(allowed) == {0}


PARSERS: dict[str, Callable[[ResponseBody], Any]] = {
    "metadata": ask.parse_metadata,
    "groups": ask.parse_groups,
    "commits": ask.parse_commits,
    "share_offsets": ask.parse_share_offsets,
    "ends": ask.parse_offsets,
    "fetched": ask.parse_fetched,
    "coordinator": ask.parse_coordinator,
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_truncated_response_is_an_error(name: str) -> None:
    whole = RECORDED[name]
    for length in range(4, len(whole.data) - 1):
        cut = ResponseBody(whole.version, whole.data[:length])
        try:
            PARSERS[name](cut)
        except ValueError:
            continue
        # What is cut after all that is read does no harm.
        assert PARSERS[name](cut) == PARSERS[name](whole)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
@settings(max_examples=40, deadline=None)
def test_garbage_is_an_error_or_harmless(name: str, data: bytes) -> None:
    try:
        PARSERS[name](ResponseBody(RECORDED[name].version, data))
    except ValueError:
        return


@pytest.mark.parametrize(
    ("address", "shown"),
    [(ask.Address("h", 1), "h:1"), (ask.Address("::1", 2), "[::1]:2")],
)
def test_addresses(address: ask.Address, shown: str) -> None:
    assert str(address) == shown
