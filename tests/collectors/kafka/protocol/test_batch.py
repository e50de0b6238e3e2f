"""Record batches: complete, cut, large, and corrupt ones."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from telemetron_collectors.kafka.protocol.batch import Batch, batches
from telemetron_collectors.kafka.protocol.codec import TooLargeError
from tests.collectors.kafka.scripted import batch


def offsets(records: bytes, offset: int = 0) -> list[int]:
    return [record.offset for one in batches(records) for record in one.read(offset)]


def test_a_batch_has_its_range_of_offsets_and_its_producer() -> None:
    (one,) = batches(batch(5, b"a", b"b", producer_id=7))
    assert (one.base_offset, one.next_offset, one.producer_id) == (5, 7, 7)
    assert (one.is_transactional, one.is_control) == (True, False)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_cut_batch_is_left_for_the_next_fetch(cut: int) -> None:
    assert offsets(batch(0, b"a") + batch(1, b"b")[:-cut]) == [0]


def test_records_before_the_offset_are_skipped() -> None:
    assert offsets(batch(0, *[b"x"] * 10), offset=7) == [7, 8, 9]


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe"])
def test_a_header_name_that_is_not_utf_8_hides_no_record(value: bytes | None) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 16)
    builder.append(0, 1_700_000_000_000, b"key", b"{}", [("name", value)])
    records = bytes(builder.build()).replace(b"name", b"a\xff\xfeb")
    ((record,),) = (list(one.read(0)) for one in batches(records))
    assert (record.key, record.headers) == (b"key", [("a\ufffd\ufffdb", value)])


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_large_batch_is_unpacked_only_as_far_as_it_is_read(codec: int) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 25)
    for number in range(20):
        builder.append(number, 1_700_000_000_000, None, b" " * 1_000_000, [])
    records = Batch(bytes(builder.build())).read(0)
    assert [next(records).offset for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TooLargeError):
        list(records)  # 20 MB, more than 16 MiB


def test_a_record_that_ends_after_its_batch_is_an_error() -> None:
    broken = bytearray(batch(0, b"a"))
    broken[61] = 0x7E
    with pytest.raises(ValueError, match="after its batch"):
        offsets(bytes(broken))
