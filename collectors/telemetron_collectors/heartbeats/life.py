"""One instance of an agent: its present life, its earlier ones, and the progress of its tasks.

Telemetron's monotonic clock measures all durations; times by an agent's own clock are only shown.
"""

from collections import deque
from collections.abc import Sequence, Set
from datetime import datetime
from math import inf
from operator import attrgetter

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.clock import Timer
from telemetron.document import Ended, Failure, Problem
from telemetron.normal import total
from telemetron_collectors.heartbeats.beat import Beat, BeatTask
from telemetron_collectors.heartbeats.states import is_over

# Earlier boots remembered for each instance id; so many processes may share one by mistake.
MAX_BOOTS = 1_000
# How late a beat may arrive after its boot's goodbye; a later one is from a running process.
GOODBYE_SECONDS = 60.0
SILENT_AFTER_BEATS = 3

_content = attrgetter(
    *(n for n in Beat.__struct_fields__ if n not in ("boot_id", "sequence", "sent_at", "ended"))
)

InstanceKey = tuple[str, str | None, str]
"""An instance: its agent's name, its namespace, its id."""
AgentKey = tuple[str, str | None, str | None]
"""An agent: its name and its namespace; without a namespace, the pod whose namespace it has."""


class Life:
    """One instance: its present life, and the boots of earlier ones."""

    def __init__(self, where: InstanceKey, beat: Beat, now: float, since: datetime) -> None:
        self.where = where
        self.part_id = key.join(*where)
        self.part: AgentPart | None = None
        """The part that was published last."""
        self.beat = self.sent = beat
        """The newest beat with news: as the document may show it, and as it was sent."""
        self.agent = _agent(where, beat)
        """Whose ended tasks it shares."""
        self._content = _content(beat)
        """What `sent` says, apart from its ends."""
        self.tasks: Sequence[BeatTask] = ()
        """Its tasks that are not over."""
        self.sequence: int | None = None
        """The highest of this life."""
        self.last_beat_at = self.began = now
        self.since = since
        self.boots: deque[str | None] = deque(maxlen=MAX_BOOTS)
        self.lives = 1
        self.tasks_lost = 0
        """Tasks that were active when a life ended without a goodbye."""
        self.duplicate: Problem | None = None
        """The problem that another process beats under this id."""
        self.duplicated = -inf
        """When a beat of an earlier boot was dropped last."""
        self.progress: dict[str, tuple[datetime, float]] = {}
        """Of each task what it reported last, and since when."""
        self.failure: Failure | None = None
        self.ends: Set[tuple[str, datetime | None]] = frozenset()
        """The ends that the newest beat lists."""
        self.end_count = 0
        """Its tasks that ended, by its outcomes."""
        self.offset: float | None = None
        self.silent_since: datetime | None = None
        self.due = 0.0
        self.timer: Timer | None = None
        self.leaving: Timer | None = None
        """Set after its goodbye, until its last ends have been published."""

    @property
    def task_count(self) -> int:
        """The number of its active tasks, listed or not."""
        return max(len(self.tasks), self.beat.task_count or 0)

    def is_later(self, beat: Beat) -> bool:
        """Return whether a beat of the same boot is newer than all before it."""
        if beat.sequence is None or self.sequence is None:
            return True
        return beat.sequence > self.sequence

    def is_repeated_by(self, beat: Beat) -> bool:
        """Return whether a beat, as it was sent, is newer than all before it but says the same."""
        return (
            beat.boot_id == self.sent.boot_id
            and self.is_later(beat)
            and _content(beat) == self._content
            and (not beat.ended or beat.ended == self.sent.ended)
        )

    def begins_new_life(self, beat: Beat, now: float) -> bool:
        """Return whether the beat begins a new life; without a boot id only after a silence.

        If an earlier boot beats while the newest is silent, and too late for a late beat, its
        process has outlived the other process with the same id.
        """
        if beat.boot_id != self.beat.boot_id:
            survived = bool(self.silent_since) and now - self.began >= GOODBYE_SECONDS
            return survived or beat.boot_id not in self.boots
        return beat.boot_id is None and bool(self.silent_since) and not self.is_later(beat)

    def is_shared(self, now: float) -> bool:
        """Return whether another process recently beat under this id."""
        return self.duplicated > max(self.began, now - GOODBYE_SECONDS)

    def begin(self, beat: Beat, now: float, since: datetime) -> None:
        """Begin a new life: of the earlier ones only the last failure is kept."""
        if beat.boot_id == self.beat.boot_id:
            self.lives += 1
        else:
            self.lives += beat.boot_id not in self.boots
            self.boots.append(self.beat.boot_id)
        self.tasks_lost = total((self.tasks_lost, self.task_count))
        self.sequence = None
        self.ends = frozenset()
        self.end_count = 0
        self.began = now
        self.since = since
        self.progress = {}

    def hear(self, beat: Beat, now: float) -> None:
        """Note that it beats."""
        self.last_beat_at = now
        self.sequence = self.sequence if beat.sequence is None else beat.sequence

    def silent_at(self) -> float:
        """Return the monotonic time at which it becomes silent if no beat comes."""
        return self.last_beat_at + self.max_silence()

    def max_silence(self) -> float:
        """Return how many seconds it may be silent."""
        return SILENT_AFTER_BEATS * self.beat.interval_seconds

    def apply(self, beat: Beat, sent: Beat, failure: Failure | None, now: float) -> None:
        """Apply a beat with news: its failure, and since when each task's progress is unchanged."""
        self.beat, self.sent = beat, sent
        self.agent, self._content = _agent(self.where, beat), _content(sent)
        self.tasks = [task for task in beat.tasks if not is_over(task)]
        self.silent_since = None
        if now - self.duplicated > GOODBYE_SECONDS:
            self.duplicate = None
        self.failure = failure or self.failure
        before = self.progress
        self.progress = {
            task.id: old
            if (old := before.get(task.id)) and old[0] == task.progressed_at
            else (task.progressed_at, now)
            for task in beat.tasks
            if task.progressed_at
        }

    def end_tasks(self, listed: Sequence[Ended]) -> tuple[list[Ended], int | None]:
        """Return the ends that are new, oldest first, and how many there were; None: not known.

        `listed` are the ends of the newest beat. A beat repeats ends until one was accepted: only
        ends that the beat before did not list are new.
        """
        new = [end for end in listed if (end.id, end.ended_at) not in self.ends]
        if listed or self.ends:
            self.ends = {(end.id, end.ended_at) for end in listed}
        outcomes = self.beat.outcomes
        if outcomes is None:
            return new, len(new) if listed else None
        count = outcomes.completed + outcomes.failed + outcomes.canceled
        grown = count - self.end_count if count >= self.end_count else count
        self.end_count = count
        return new, grown


def _agent(where: InstanceKey, beat: Beat) -> AgentKey:
    name, namespace, _ = where
    return name, namespace, None if namespace else beat.pod_id
