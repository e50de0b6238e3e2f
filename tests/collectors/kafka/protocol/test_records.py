"""Encoded records, as a reader of committed transactions sees them."""

import struct
import tracemalloc

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.protocol.record import MAX_VALUE_BYTES
from telemetron_collectors.kafka.protocol.records import Scan, is_heavy, scan
from tests.collectors.kafka.scripted import batch


def marker(offset: int, producer: int, *, commit: bool) -> bytes:
    """The control record that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 16)
    builder.append(0, 0, struct.pack(">HH", 0, int(commit)), b"", [])
    built = bytearray(builder.build())
    built[:8] = struct.pack(">q", offset)
    built[22] |= 0x20  # a control batch; scan does not check the checksum
    return bytes(built)


def found(records: bytes, offset: int = 0, limit: int = 99, aborted: object = ()) -> Scan:
    return scan(Fetched(0, 0, list(aborted), records), offset, limit)  # type: ignore[call-overload]


def offsets(scanned: Scan) -> list[int]:
    return [record.offset for record in scanned.records]


def test_plain_records() -> None:
    scanned = found(batch(0, b"a", b"b") + batch(2, b"c"))
    assert (offsets(scanned), scanned.next) == ([0, 1, 2], 3)
    assert scanned.records[0] == (0, 1_700_000_000_000, None, b"a", [])


def test_compressed_records_are_heavy() -> None:
    assert not is_heavy(batch(0, b"a", b"b") + batch(2, b"c"), 1000)
    assert is_heavy(batch(0, b"a" * 1000), 1000)
    assert is_heavy(batch(0, b"a") + batch(1, *[b"abcabcabc"] * 20, codec=4), 1000)
    assert not is_heavy(b"", 1000)
    assert not is_heavy(b"\x02" * 22, 1000)


def test_scanning_begins_in_the_middle_of_a_batch() -> None:
    scanned = found(batch(0, *[b"x"] * 10), offset=4, limit=3)
    assert (offsets(scanned), scanned.next) == ([4, 5, 6], 7)


def test_offsets_may_have_gaps() -> None:
    scanned = found(batch(5, b"a") + batch(9, b"b"))
    assert (offsets(scanned), scanned.next) == ([5, 9], 10)


def test_the_end_of_a_batch_may_be_compacted_away() -> None:
    compacted = bytearray(batch(0, b"a"))
    compacted[23:27] = struct.pack(">i", 4)  # last offset delta
    scanned = found(bytes(compacted))
    assert (offsets(scanned), scanned.next) == ([0], 5)


def test_aborted_records_and_markers_are_no_tasks() -> None:
    log = (
        batch(0, b"a", b"b", producer_id=7)
        + batch(2, b"c", producer_id=8)
        + marker(3, 7, commit=False)
        + marker(4, 8, commit=True)
        + batch(5, b"d", producer_id=7)
    )
    scanned = found(log, aborted=[(7, 0)])
    assert (offsets(scanned), scanned.next) == ([2, 5], 6)


def test_undecodable_records_are_a_problem() -> None:
    garbage = bytearray(batch(0, b"a", b"b"))
    garbage[61:] = b"\xff" * (len(garbage) - 61)
    assert found(bytes(garbage)).trouble == "the records cannot be decoded"


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
@given(st.integers(61, 100), st.binary(min_size=1, max_size=20))
def test_a_corrupt_batch_is_a_problem_or_harmless(codec: int, at: int, garbage: bytes) -> None:
    """None, gzip, snappy, lz4, zstd: each fails in its own way."""
    broken = bytearray(batch(0, *[b"abcabcabc"] * 20, codec=codec))
    broken[at : at + len(garbage)] = garbage
    too_large = "a batch of records unpacks to more than 16 MiB"  # as its broken header says
    assert found(bytes(broken)).trouble in ("", "the records cannot be decoded", too_large)


def test_a_scan_reports_keys_and_holes() -> None:
    plain, keyed = found(batch(0, b"a") + batch(1, b"b")), found(batch(0, b"a", key=b"k"))
    assert (plain.is_keyed, plain.has_holes) == (False, False)
    assert (keyed.is_keyed, keyed.has_holes) == (True, False)
    assert found(batch(0, b"a") + batch(2, b"b")).has_holes
    compacted = bytearray(batch(0, b"a"))
    compacted[23:27] = struct.pack(">i", 4)  # last offset delta
    assert found(bytes(compacted)).has_holes
    aborted = batch(0, b"a", b"b", producer_id=7) + marker(2, 7, commit=False) + batch(3, b"c")
    assert not found(aborted, aborted=[(7, 0)]).has_holes


def test_an_unknown_codec_is_a_problem() -> None:
    unknown = bytearray(batch(0, b"a"))
    unknown[22] |= 7
    assert found(bytes(unknown)).trouble == "the compression of the records is not supported"


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_compressed_batch_of_garbage(codec: int) -> None:
    broken = bytearray(batch(0, *[b"abcabcabc"] * 20, codec=codec))
    broken[61:] = b"\xff" * (len(broken) - 61)
    assert found(bytes(broken)).trouble == "the records cannot be decoded"


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_bomb_takes_bounded_memory_and_hides_no_record_before_it(codec: int) -> None:
    """A record of 90 MB in a few KB (snappy, with the frame of Kafka's clients: a few MB)."""
    bomb = batch(1, b"b", b" " * 90_000_000, codec=codec)
    tracemalloc.start()
    try:
        scanned = found(batch(0, b"a") + bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (offsets(scanned), scanned.next) == ([0, 1], 2)
    assert scanned.trouble == "a batch of records unpacks to more than 16 MiB"
    assert peak < 48 << 20


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_a_value_is_copied_only_as_far_as_it_may_be_decoded(codec: int) -> None:
    scanned = found(batch(0, b" " * 5_000_000, b"next", codec=codec))
    assert [len(record.value or b"") for record in scanned.records] == [MAX_VALUE_BYTES + 1, 4]
