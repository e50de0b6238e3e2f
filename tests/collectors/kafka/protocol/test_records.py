"""What a reader of committed transactions sees of encoded records."""

import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from telemetron_collectors.kafka.protocol.messages import Fetched
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


def test_few_bytes_may_be_much() -> None:
    assert not is_heavy(batch(0, b"a", b"b") + batch(2, b"c"), 1000)
    assert is_heavy(batch(0, b"a" * 1000), 1000)
    assert is_heavy(batch(0, b"a") + batch(1, *[b"abcabcabc"] * 20, codec=4), 1000)
    assert not is_heavy(b"", 1000)
    assert not is_heavy(b"\x02" * 22, 1000)


def test_a_batch_comes_whole_where_its_middle_was_asked_for() -> None:
    scanned = found(batch(0, *[b"x"] * 10), offset=4, limit=3)
    assert (offsets(scanned), scanned.next) == ([4, 5, 6], 7)


def test_gaps_of_compaction() -> None:
    scanned = found(batch(5, b"a") + batch(9, b"b"))
    assert (offsets(scanned), scanned.next) == ([5, 9], 10)


def test_the_end_of_a_batch_that_was_compacted_away() -> None:
    compacted = bytearray(batch(0, b"a"))
    compacted[23:27] = struct.pack(">i", 4)  # last offset delta
    scanned = found(bytes(compacted))
    assert (offsets(scanned), scanned.next) == ([0], 5)


def test_transactions() -> None:
    log = (
        batch(0, b"a", b"b", producer_id=7)
        + batch(2, b"c", producer_id=8)
        + marker(3, 7, commit=False)
        + marker(4, 8, commit=True)
        + batch(5, b"d", producer_id=7)
    )
    scanned = found(log, aborted=[(7, 0)])
    assert (offsets(scanned), scanned.next) == ([2, 5], 6)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_batch_that_is_cut_is_left_for_the_next_fetch(cut: int) -> None:
    scanned = found(batch(0, b"a") + batch(1, b"b")[:-cut])
    assert (offsets(scanned), scanned.next, scanned.trouble) == ([0], 1, "")


def test_garbage() -> None:
    garbage = bytearray(batch(0, b"a", b"b"))
    garbage[61:] = b"\xff" * (len(garbage) - 61)
    assert found(bytes(garbage)).trouble == "the records cannot be decoded"


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
@given(st.integers(61, 100), st.binary(min_size=1, max_size=20))
def test_a_batch_that_is_broken_anywhere(codec: int, at: int, garbage: bytes) -> None:
    """None, gzip, snappy, lz4, zstd: each fails in its own way."""
    broken = bytearray(batch(0, *[b"abcabcabc"] * 20, codec=codec))
    broken[at : at + len(garbage)] = garbage
    too_large = "a batch of records unpacks to more than 16 MiB"  # as its broken header says
    assert found(bytes(broken)).trouble in ("", "the records cannot be decoded", too_large)


def with_header(name: bytes, value: bytes | None) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 16)
    builder.append(0, 1_700_000_000_000, b"key", b"{}", [("name", value)])
    built = bytes(builder.build())
    assert len(name) == 4
    return built.replace(b"name", name)


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe"])
def test_a_header_whose_name_is_no_utf_8_hides_no_record(value: bytes | None) -> None:
    scanned = found(with_header(b"a\xff\xfeb", value) + batch(1, b"{}"))
    assert (offsets(scanned), scanned.trouble) == ([0, 1], "")
    assert scanned.records[0].headers == [("a\ufffd\ufffdb", value)]


def test_keys_and_holes_show_what_compaction_may_do_and_did() -> None:
    plain, keyed = found(batch(0, b"a") + batch(1, b"b")), found(with_header(b"name", None))
    assert (plain.is_keyed, plain.has_holes) == (False, False)
    assert (keyed.is_keyed, keyed.has_holes) == (True, False)
    assert found(batch(0, b"a") + batch(2, b"b")).has_holes
    compacted = bytearray(batch(0, b"a"))
    compacted[23:27] = struct.pack(">i", 4)  # last offset delta
    assert found(bytes(compacted)).has_holes
    aborted = batch(0, b"a", b"b", producer_id=7) + marker(2, 7, commit=False) + batch(3, b"c")
    assert not found(aborted, aborted=[(7, 0)]).has_holes


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_unpacks_to_much_is_read_as_far_as_it_is_wanted(codec: int) -> None:
    """Of 20 MB, the first records; behind 16 MiB of them, none."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 25)
    for number in range(20):
        builder.append(number, 1_700_000_000_000, None, b" " * 1_000_000, [])
    built = bytes(builder.build())
    assert (offsets(found(built, limit=3)), found(built, limit=3).trouble) == ([0, 1, 2], "")
    scanned = found(built)
    assert scanned.trouble == "a batch of records unpacks to more than 16 MiB"
    assert offsets(scanned) == list(range(scanned.next))
    assert 15 <= scanned.next <= 16
    assert found(built, offset=18).next == 18


def test_a_codec_that_is_not_known() -> None:
    unknown = bytearray(batch(0, b"a"))
    unknown[22] |= 7
    assert found(bytes(unknown)).trouble == "the compression of the records is not supported"


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_compressed_batch_of_garbage(codec: int) -> None:
    broken = bytearray(batch(0, *[b"abcabcabc"] * 20, codec=codec))
    broken[61:] = b"\xff" * (len(broken) - 61)
    assert found(bytes(broken)).trouble == "the records cannot be decoded"
