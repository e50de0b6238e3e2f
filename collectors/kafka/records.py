"""Records of one partition, decoded as a reader of committed transactions sees them."""

from typing import Any, NamedTuple

from aiokafka.errors import UnsupportedCodecError
from aiokafka.record import MemoryRecords
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord

from collectors.kafka.request import Fetched
from collectors.kafka.task import Record


class Scan(NamedTuple):
    """What a part of the log holds, from where it was asked for up to `next`."""

    records: list[Record]
    next: int
    trouble: str = ""


def scan(fetched: Fetched, offset: int, limit: int) -> Scan:
    """At most `limit` records from `offset` on; the records of aborted transactions are left out.

    For a thread where there is much to decode.
    """
    scanner = _Scanner(fetched.aborted, offset, limit)
    try:
        scanner.read(MemoryRecords(fetched.records))
    except UnsupportedCodecError:
        return scanner.result("the records' compression is not supported")
    except Exception:  # the codecs, partly compiled, raise of all kinds what is broken
        return scanner.result("the records cannot be decoded")
    return scanner.result()


class _Scanner:
    def __init__(self, aborted: list[tuple[int, int]], offset: int, limit: int) -> None:
        self._aborted = sorted(aborted, key=lambda one: one[1])
        self._producers: set[int] = set()
        """Those whose transaction is an aborted one, where the log has been read up to."""
        self._limit = limit
        self._records: list[Record] = []
        self._next = offset

    def read(self, batches: Any) -> None:
        while batches.has_next() and len(self._records) < self._limit:
            self._read_batch(batches.next_batch())

    def result(self, trouble: str = "") -> Scan:
        return Scan(self._records, self._next, trouble)

    def _read_batch(self, batch: Any) -> None:
        if self._is_left_out(batch):
            self._next = max(self._next, batch.next_offset)
            return
        for record in batch:
            if record.offset < self._next:
                continue  # a batch comes whole, even where its middle was asked for
            if len(self._records) >= self._limit:
                return
            value, headers = record.value, list(record.headers)
            self._records.append(Record(record.offset, record.timestamp or -1, value, headers))
            self._next = record.offset + 1
        self._next = max(self._next, batch.next_offset)  # its end may be compacted away

    def _is_left_out(self, batch: Any) -> bool:
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._producers.add(self._aborted.pop(0)[0])
        if batch.is_control_batch:
            if _is_abort(batch):
                self._producers.discard(batch.producer_id)
            return True
        return batch.is_transactional and batch.producer_id in self._producers


def _is_abort(batch: Any) -> bool:
    record = next(iter(batch), None)
    return record is not None and bool(ControlRecord.parse(record.key) == ABORT_MARKER)


def is_heavy(records: bytes, limit: int) -> bool:
    """Whether there may be much to decode: many bytes, or compressed ones, however few."""
    at = 0
    while len(records) < limit and at + 23 <= len(records):
        if records[at + 16] < 2 or records[at + 22] & 7:  # an old format, or a codec
            return True
        at += 12 + int.from_bytes(records[at + 8 : at + 12], "big")
    return len(records) >= limit
