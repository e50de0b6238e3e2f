"""Descriptions of groups of every type by Apache Kafka 4.3.1, recorded."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_collectors.kafka.protocol.membership import (
    KINDS,
    GroupInfo,
    GroupMember,
    describe_groups,
    parse_described,
)
from telemetron_collectors.kafka.protocol.wire import ResponseBody

RECORDED = {
    name: ResponseBody(version, bytes.fromhex(data))
    for name, (version, data) in json.loads(
        (Path(__file__).parent / "recorded.json").read_text()
    ).items()
}


def described(kind: str) -> dict[str, GroupInfo]:
    """Without the random ids of the members."""
    return {
        name: info._replace(members=tuple(member._replace(id="") for member in info.members))
        for name, info in parse_described(kind, RECORDED[kind]).items()
    }


@pytest.mark.parametrize(
    ("kind", "name", "client", "epoch"),
    [
        ("classic", "classic", "old", None),
        ("consumer", "new", "new", 2),
        ("share", "shared", "sharer", 3),
    ],
)
def test_members_have_their_assignments(
    kind: str, name: str, client: str, epoch: int | None
) -> None:
    (member,) = described(kind)[name].members
    topics = frozenset({"tasks"})
    assert member == GroupMember(client, "/127.0.0.1", {"tasks": (0, 1)}, topics)
    assert described(kind)[name].state == "Stable"
    assert described(kind)[name].epoch == epoch


def test_a_streams_member_has_the_partitions_of_its_active_tasks() -> None:
    """With an endpoint, tags, a repartition topic of 3 partitions, and a changelog."""
    (member,) = described("streams")["app2"].members
    topics = {"tasks": (0, 1), "app2-by-key-repartition": (0, 1, 2)}
    assert member == GroupMember("streamer", "/127.0.0.1", topics, frozenset(topics))
    assert described("streams")["app2"].epoch == 3


@pytest.mark.parametrize("kind", ["classic", "streams"])
def test_a_missing_group_is_dead(kind: str) -> None:
    info = described(kind)["nobody"]
    assert (info.state, info.members, info.is_absent) == ("Dead", (), True)


def test_requests_name_the_groups_of_one_type() -> None:
    for kind, (api, version) in {
        "classic": (15, 4),
        "consumer": (69, 0),
        "share": (77, 1),
        "streams": (89, 0),
    }.items():
        request = describe_groups(kind, ["b", "a"])
        sent = request.prepare({api: (0, 9)})
        assert (sent.number, sent.body.index(b"a") < sent.body.index(b"b")) == (version, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_response_is_an_error(kind: str) -> None:
    whole = RECORDED[kind]
    for length in range(4, len(whole.data) - 6):
        with pytest.raises(ValueError, match=r".*"):
            parse_described(kind, ResponseBody(whole.version, whole.data[:length]))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=200))
@settings(max_examples=40, deadline=None)
def test_garbage_is_an_error_or_harmless(kind: str, data: bytes) -> None:
    try:
        parse_described(kind, ResponseBody(RECORDED[kind].version, data))
    except ValueError:
        return
