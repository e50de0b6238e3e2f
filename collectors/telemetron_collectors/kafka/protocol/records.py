"""Records of one partition, decoded as a consumer with `read_committed` reads them."""

from typing import NamedTuple

from telemetron_collectors.kafka.protocol.batch import Batch, batches
from telemetron_collectors.kafka.protocol.codec import (
    MAX_BYTES,
    TooLargeError,
    UnsupportedCodecError,
)
from telemetron_collectors.kafka.protocol.legacy import LegacyBatch
from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.protocol.record import LogRecord

ABORT = b"\0\0"
"""The type of an abort marker, in the key of its control record after the version."""


class Scan(NamedTuple):
    """The records of a part of the log, up to `next`."""

    records: list[LogRecord]
    next: int
    trouble: str = ""
    is_keyed: bool = False
    """Whether a record has a key: compaction may remove it."""
    has_holes: bool = False
    """Whether an offset has no record: compaction has removed it."""


def scan(fetched: Fetched, offset: int, limit: int) -> Scan:
    """Decode at most `limit` records from `offset` on, without those of aborted transactions.

    Run it in a thread if `is_heavy`.
    """
    scanner = _Scanner(fetched.aborted, offset, limit)
    try:
        scanner.read(fetched.records)
    except UnsupportedCodecError:
        return scanner.result("the compression of the records is not supported")
    except TooLargeError:
        limit_text = f"{MAX_BYTES >> 20} MiB"
        return scanner.result(f"a batch of records unpacks to more than {limit_text}")
    except Exception:  # corrupt data: each codec raises errors of its own
        return scanner.result("the records cannot be decoded")
    return scanner.result()


class _Scanner:
    def __init__(self, aborted: list[tuple[int, int]], offset: int, limit: int) -> None:
        self._aborted = sorted(aborted, key=lambda one: one[1])
        self._producers: set[int] = set()
        """Producers whose current transaction is aborted, at the place that was read last."""
        self._limit = limit
        self._records: list[LogRecord] = []
        self._next = offset
        self._is_keyed = self._has_holes = False

    def read(self, records: bytes) -> None:
        for batch in batches(records):
            if len(self._records) >= self._limit:
                return
            self._has_holes |= batch.base_offset > self._next
            self._read_batch(batch)

    def result(self, trouble: str = "") -> Scan:
        return Scan(self._records, self._next, trouble, self._is_keyed, self._has_holes)

    def _read_batch(self, batch: Batch | LegacyBatch) -> None:
        if not self._is_left_out(batch):
            expected = max(self._next, batch.base_offset)
            for record in batch.read(self._next):
                if len(self._records) >= self._limit:
                    return
                self._records.append(record)
                self._is_keyed |= record.key is not None
                self._has_holes |= record.offset > expected
                self._next = expected = record.offset + 1
            self._has_holes |= batch.next_offset > expected
        self._next = max(self._next, batch.next_offset)  # the last records may be compacted away

    def _is_left_out(self, batch: Batch | LegacyBatch) -> bool:
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._producers.add(self._aborted.pop(0)[0])
        if batch.is_control:
            if _is_abort(batch):
                self._producers.discard(batch.producer_id)
            return True
        return batch.is_transactional and batch.producer_id in self._producers


def _is_abort(batch: Batch | LegacyBatch) -> bool:
    marker = next(batch.read(0), None)
    return marker is not None and (marker.key or b"")[2:4] == ABORT


def is_heavy(records: bytes, limit: int) -> bool:
    """Return whether decoding may take long: many bytes, or compressed ones, however few."""
    at = 0
    while len(records) < limit and at + 23 <= len(records):
        if records[at + 16] < 2 or records[at + 22] & 7:  # an old format, or a codec
            return True
        at += 12 + int.from_bytes(records[at + 8 : at + 12], "big")
    return len(records) >= limit
