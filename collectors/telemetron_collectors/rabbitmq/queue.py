"""One queue: what the broker last said of it, its movement, and its part of the document."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from telemetron.document import Member, Problem, Queue
from telemetron_collectors.rabbitmq.metrics import Counts
from telemetron_collectors.rabbitmq.rows import QueueRow, Stats, table
from telemetron_collectors.rabbitmq.settings import Settings

MAX_MEMBERS = 16
MAX_DEAD_LETTERS_OF = 16
EXACT = ("classic", "quorum")
"""Types whose ready messages wait for a consumer; a stream keeps all that it retains."""


class RabbitQueue:
    """A queue of one virtual host."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Its name in the document."""
        self.row = QueueRow("")
        self.settings = Settings()
        self.dead_letters_of: Sequence[str] = ()
        self.uncounted: str | None = None
        """Why its counts are not known; None: no such trouble."""
        self.part: Queue | None = None
        """The queue in the document."""
        self._stats: Stats | None = None
        self._messages: int | None = None
        self._produced_at: datetime | None = None
        self._consumed_at: datetime | None = None
        self._uncounted_since: datetime | None = None

    @property
    def depth(self) -> int:
        return self.row.messages_ready or 0

    def count(self, counts: Counts | None) -> None:
        """Take the counts of a node's metrics; None: no node has them."""
        counts = counts or Counts()
        self.row = msgspec.structs.replace(
            self.row,
            messages_ready=counts.ready,
            messages_unacknowledged=counts.unacknowledged,
            consumers=counts.consumers,
        )

    def build(self, now: datetime) -> Queue:
        """Return the queue for the document; the part of before if only the time differs."""
        self._move(now)
        row, is_work = self.row, self.row.type in EXACT
        members = self._members()
        part = Queue(
            name=self.name,
            consumers=row.consumers,
            group_state=row.state,
            members=members[:MAX_MEMBERS],
            depth=row.messages_ready if is_work else None,
            depth_exact=True if is_work and row.messages_ready is not None else None,
            unacknowledged=row.messages_unacknowledged,
            oldest_submitted_at=self._oldest(),
            produced_at=self._produced_at,
            consumed_at=self._consumed_at,
            dead_letters_of=list(self.dead_letters_of[:MAX_DEAD_LETTERS_OF]),
            message_ttl_seconds=self.settings.message_ttl_seconds,
            measured_at=now,
            problems=self._problems(now),
            truncated=self._truncated(members),
        )
        if not self.part or msgspec.structs.replace(part, measured_at=self.part.measured_at) != (
            self.part
        ):
            self.part = part
        return self.part

    def _move(self, now: datetime) -> None:
        """Note movement: by the broker's counters if it sent some, else by the counts."""
        row = self.row
        if isinstance(row.message_stats, Stats):
            self._move_by_counters(row.message_stats, now)
        elif row.messages_ready is not None and row.messages_unacknowledged is not None:
            self._move_by_counts(row.messages_ready + row.messages_unacknowledged, now)

    def _move_by_counters(self, stats: Stats, now: datetime) -> None:
        # A queue that was declared again counts from 0; that is no movement.
        if (before := self._stats) is not None:
            if stats.publish > before.publish:
                self._produced_at = now
            if stats.consumed > before.consumed:
                self._consumed_at = now
        self._stats = stats

    def _move_by_counts(self, messages: int, now: datetime) -> None:
        if (before := self._messages) is not None:
            if messages > before:
                self._produced_at = now
            if messages < before and not self.settings.drops:
                self._consumed_at = now
        self._messages = messages

    def _members(self) -> list[Member]:
        members = [_member(it) for it in self.row.consumer_details if isinstance(it, dict)]
        return sorted(members, key=lambda it: (it.client_id, it.host or ""))

    def _oldest(self) -> datetime | None:
        """Return the time of the first message, as its publisher set it.

        Of a queue with priorities that is the first of the highest priority, not the oldest.
        """
        seconds = self.row.head_message_timestamp
        if not self.depth or self.settings.max_priority or not isinstance(seconds, int):
            return None
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            return None

    def _problems(self, now: datetime) -> list[Problem]:
        message = self.uncounted or self._unmoved()
        if message is None:
            self._uncounted_since = None
            return []
        self._uncounted_since = self._uncounted_since or now
        return [Problem("MetricsUnavailable", message, self._uncounted_since)]

    def _unmoved(self) -> str | None:
        """Return why nobody knows whether messages are taken."""
        if self.settings.drops and not isinstance(self.row.message_stats, Stats):
            return "its messages also expire or are dropped, so `consumed_at` is not known"
        return None

    def _truncated(self, members: list[Member]) -> dict[str, int] | None:
        counts = {
            "members": (len(members), MAX_MEMBERS),
            "dead_letters_of": (len(self.dead_letters_of), MAX_DEAD_LETTERS_OF),
        }
        return {name: count for name, (count, most) in counts.items() if count > most} or None


def _member(details: dict[str, Any]) -> Member:
    """Read one of `consumer_details`; a consumer whose channel has just closed has no channel."""
    host = table(details.get("channel_details")).get("peer_host")
    return Member(str(details.get("consumer_tag", "")), host if isinstance(host, str) else None)
