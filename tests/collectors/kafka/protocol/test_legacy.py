"""Messages of the formats before Kafka 0.11: plain, compressed, too large and corrupt ones."""

import gzip
import struct

import pytest
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.protocol.records import Scan, is_heavy, scan

TIME = 1_700_000_000_000
COMPRESSED = [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
"""Format and codec: gzip, snappy (with xerial's frame), lz4, which the oldest format lacks."""


def messages(magic: int, codec: int, *values: bytes | None, last: int = -1) -> bytes:
    """Return what a producer sends; the broker makes `last` the offset of a compressed message."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 27)  # type: ignore[arg-type]
    first = last + 1 - len(values) if magic == 0 and codec else 0
    for number, value in enumerate(values):
        builder.append(first + number, TIME + number, b"key" if value is None else None, value)
    made = bytearray(builder.build())
    if codec:
        made[:8] = struct.pack(">q", last)
    return bytes(made)


def found(records: bytes, offset: int = 0, limit: int = 99) -> Scan:
    return scan(Fetched(0, 0, [], records), offset, limit)


@pytest.mark.parametrize("magic", [0, 1])
def test_plain_messages(magic: int) -> None:
    scanned = found(messages(magic, 0, b"a", b"b", None))
    assert [one.value for one in scanned.records] == [b"a", b"b", None]
    assert [one.timestamp for one in scanned.records] == [
        TIME + n if magic else -1 for n in range(3)
    ]
    assert (scanned.next, scanned.is_keyed, scanned.has_holes) == (3, True, False)


@pytest.mark.parametrize(("magic", "codec"), COMPRESSED)
def test_compressed_messages_have_the_offsets_that_the_broker_gave(magic: int, codec: int) -> None:
    packed = messages(magic, codec, b"a", b"b", b"c", last=9)
    assert is_heavy(packed, 1 << 20)
    scanned = found(packed, offset=8)
    assert [(one.offset, one.value) for one in scanned.records] == [(8, b"b"), (9, b"c")]
    assert (scanned.next, scanned.has_holes) == (10, False)
    assert found(packed, offset=5).has_holes


def test_the_brokers_time_counts_if_the_topic_says_so() -> None:
    packed = bytearray(messages(1, 1, b"a", b"b", last=1))
    packed[17] |= 8
    packed[18:26] = struct.pack(">q", TIME + 77)
    assert [one.timestamp for one in found(bytes(packed)).records] == [TIME + 77] * 2


@pytest.mark.parametrize(("magic", "codec"), COMPRESSED)
def test_a_message_that_unpacks_to_too_much_is_a_problem(magic: int, codec: int) -> None:
    bomb = messages(magic, codec, *[b" " * 1_000_000] * 20, last=19)
    scanned = found(bomb)
    assert scanned.records == []
    assert scanned.trouble == "a batch of records unpacks to more than 16 MiB"


def test_lz4_of_the_oldest_format_is_not_supported() -> None:
    packed = bytearray(messages(1, 3, b"a", last=0))
    plain = bytearray(messages(0, 0, bytes(packed)[34:]))
    plain[17] |= 3
    assert found(bytes(plain)).trouble == "the compression of the records is not supported"


def test_a_compressed_message_in_another_is_not_unpacked() -> None:
    inner = bytearray(messages(0, 1, b"a", last=0))
    outer = bytearray(messages(0, 1, b"a", last=0))
    builder = bytearray(messages(0, 0, gzip.compress(bytes(inner))))
    builder[17] = outer[17]
    assert found(bytes(builder)).trouble == "the records cannot be decoded"


@given(st.sampled_from([(0, 0), (1, 0), *COMPRESSED]), st.integers(17, 90), st.binary(max_size=9))
def test_corrupt_messages_are_a_problem_or_harmless(
    kind: tuple[int, int], at: int, garbage: bytes
) -> None:
    broken = bytearray(messages(*kind, *[b"abcabcabc"] * 20, last=19))
    broken[at : at + len(garbage)] = garbage
    assert found(bytes(broken)).trouble in (
        "",
        "the records cannot be decoded",
        "the compression of the records is not supported",
        "a batch of records unpacks to more than 16 MiB",
    )
