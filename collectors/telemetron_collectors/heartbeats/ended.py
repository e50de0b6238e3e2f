"""The ended tasks: of each agent the newest, of all its instances, and how many there were.

The part of one of its instances, the holder, shows them. A reader that follows the revisions misses
none: at most `MAX_ENDED` are shown at once, and then the next ones after `SHOW_SECONDS`, which is
longer than the store waits to publish.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from telemetron.clock import Clock, Timer
from telemetron.document import MAX_ENDED, Ended, Failure
from telemetron.normal import total
from telemetron_collectors.heartbeats.beat import Beat, BeatEnd, BeatTask
from telemetron_collectors.heartbeats.life import AgentKey, Life
from telemetron_collectors.heartbeats.states import is_over, outcome

SHOW_SECONDS = 0.1
MAX_WAITING = 1_000
"""Ends of one agent that wait to be shown; older ones are only counted."""
_LATEST = datetime.max.replace(tzinfo=UTC)


class EndedTasks:
    """The ended tasks of one agent: those shown, newest first, and those that wait to be shown."""

    def __init__(self, holder: Life) -> None:
        self.holder = holder
        """The instance whose part shows them."""
        self.count = 0
        self.timer: Timer | None = None
        """Set while ends wait."""
        self.shown: list[Ended] = []
        """Never changed, only replaced: published parts have it."""
        self._waiting: deque[Ended] = deque(maxlen=MAX_WAITING)
        self._full_until = 0.0
        self._room = 0

    def add(self, ends: Iterable[Ended], count: int) -> None:
        """Add ends, oldest first, and the number of all that ended."""
        self._waiting.extend(ends)
        self.count = total((self.count, count))

    def show(self, now: float) -> bool:
        """Show as many waiting ends as there is room for now; return whether more wait."""
        if now >= self._full_until:
            self._room = MAX_ENDED
        while self._waiting and self._room:
            self._show(self._waiting.popleft())
            self._room -= 1
            self._full_until = now + SHOW_SECONDS
        return bool(self._waiting)

    def _show(self, end: Ended) -> None:
        """Show an end; it replaces an end with the same identity, as of a task without a time."""
        others = [old for old in self.shown if old.id != end.id or old.ended_at != end.ended_at]
        self.shown = [end, *others[: MAX_ENDED - 1]]

    def seconds_to_publish(self, now: float) -> float:
        """Return the seconds until all ends so far have been published."""
        turns = -(-len(self._waiting) // MAX_ENDED)
        return max(0.0, self._full_until - now) + SHOW_SECONDS * turns

    def cancel(self) -> None:
        """Cancel its timer."""
        if self.timer:
            self.timer.cancel()
            self.timer = None


class EndedRegister:
    """The ended tasks of all agents; it calls `publish` with a holder that shows something else."""

    def __init__(self, clock: Clock, publish: Callable[[Life], None]) -> None:
        self._clock = clock
        self._publish = publish
        self._agents: dict[AgentKey, EndedTasks] = {}

    def add(self, life: Life, ends: Sequence[Ended], count: int) -> None:
        """Add ends of an instance, oldest first, and the number of all of it that ended.

        The caller publishes this instance; its agent's holder is published here if it is another.
        """
        ended = self._agents.get(life.agent)
        if ended is None:
            ended = self._agents[life.agent] = EndedTasks(life)
        elif not (ends or count):
            return
        ended.add(ends, count)
        if ended.timer is None:
            self._show(ended)
        if ended.holder is not life:
            self._publish(ended.holder)

    def held_by(self, life: Life) -> EndedTasks | None:
        """Return the ended tasks that the part of this instance shows."""
        ended = self._agents.get(life.agent)
        return ended if ended and ended.holder is life else None

    def pass_on(self, agent: AgentKey, life: Life, others: Iterable[Life]) -> None:
        """Let another instance of the agent show what this one held; without one, forget it."""
        ended = self._agents.get(agent)
        if ended is None or ended.holder is not life:
            return
        heir = next((one for one in others if one is not life and one.agent == agent), None)
        if heir is None:
            ended.cancel()
            del self._agents[agent]
        else:
            ended.holder = heir
            self._publish(heir)

    def seconds_to_publish(self, agent: AgentKey) -> float:
        """Return the seconds until all ends of an agent have been published."""
        ended = self._agents.get(agent)
        return ended.seconds_to_publish(self._clock.monotonic()) if ended else 0.0

    def close(self) -> None:
        """Cancel all timers."""
        for ended in self._agents.values():
            ended.cancel()

    def _show(self, ended: EndedTasks) -> None:
        """Show as many ends as a reader of the revisions can see; the others a moment later."""
        ended.timer = None
        if ended.show(self._clock.monotonic()):
            ended.timer = self._clock.call_later(SHOW_SECONDS, self._show_more, ended)

    def _show_more(self, ended: EndedTasks) -> None:
        self._show(ended)
        self._publish(ended.holder)


def ends_of(beat: Beat) -> list[Ended]:
    """Return the ends that a beat lists, and its tasks in a final state, oldest first."""
    over = [task for task in beat.tasks if is_over(task)]
    if not (beat.ended or over):
        return []
    ends = sorted([_ended(beat, end, end.ended_at) for end in beat.ended], key=_age)
    ids = {end.id for end in ends}
    return ends + [_ended(beat, task) for task in over if task.id not in ids]


def _ended(beat: Beat, one: BeatEnd | BeatTask, ended_at: datetime | None = None) -> Ended:
    return Ended(
        id=one.id,
        parent_id=None if one.parent_id == one.id else one.parent_id,
        status=outcome(one.status or None),
        error=one.error if isinstance(one, BeatEnd) else None,
        started_on=one.started_on,
        ended_at=ended_at,
        queue=one.queue,
        partition=one.partition,
        offset=one.offset,
        instance=beat.instance,
    )


def _age(end: Ended) -> datetime:
    return end.ended_at or _LATEST


def last_failure(beat: Beat, ends: Sequence[Ended]) -> Failure | None:
    """Return the beat's last failure, or else the last of its ends that failed."""
    if last := beat.last_failure:
        return Failure(last.task_id, last.error, last.at)
    failed = [end for end in ends if end.status == "failed"]
    return Failure(failed[-1].id, failed[-1].error, failed[-1].ended_at) if failed else None
