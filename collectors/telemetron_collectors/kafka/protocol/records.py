"""Records of one partition, decoded as a reader of committed transactions sees them."""

from typing import NamedTuple

from telemetron_collectors.kafka.protocol.batch import (
    MAX_BYTES,
    Batch,
    LegacyBatch,
    TooLargeError,
    batches,
)
from telemetron_collectors.kafka.protocol.codec import UnsupportedCodecError
from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.task import Record

ABORT = b"\0\0"
"""The type in the key of a control record, behind its version."""


class Scan(NamedTuple):
    """What a part of the log holds, from where it was asked for up to `next`."""

    records: list[Record]
    next: int
    trouble: str = ""
    is_keyed: bool = False
    """Whether a record has a key: compaction may remove it."""
    has_holes: bool = False
    """Whether offsets are without anything: compaction has removed it."""


def scan(fetched: Fetched, offset: int, limit: int) -> Scan:
    """At most `limit` records from `offset` on; the records of aborted transactions are left out.

    For a thread where there is much to decode.
    """
    scanner = _Scanner(fetched.aborted, offset, limit)
    try:
        scanner.read(fetched.records)
    except UnsupportedCodecError:
        return scanner.result("the records' compression is not supported")
    except TooLargeError:
        limit_text = f"{MAX_BYTES >> 20} MiB"
        return scanner.result(f"a batch of records unpacks to more than {limit_text}")
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
            for offset, timestamp, key, value, headers in batch.read(self._next):
                if len(self._records) >= self._limit:
                    return
                self._records.append(Record(offset, timestamp, value, headers))
                self._is_keyed |= key is not None
                self._has_holes |= offset > expected
                self._next = expected = offset + 1
            self._has_holes |= batch.next_offset > expected
        self._next = max(self._next, batch.next_offset)  # its end may be compacted away

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
    """Whether there may be much to decode: many bytes, or compressed ones, however few."""
    at = 0
    while len(records) < limit and at + 23 <= len(records):
        if records[at + 16] < 2 or records[at + 22] & 7:  # an old format, or a codec
            return True
        at += 12 + int.from_bytes(records[at + 8 : at + 12], "big")
    return len(records) >= limit
