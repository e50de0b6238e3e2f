"""The ended tasks: of each agent the newest, of all its instances, and how many there were.

A reader that follows the revisions misses none: at most `MAX_ENDED` are shown at once, and then the
next ones after `SHOW_SECONDS`, which is longer than the store waits to publish.
"""

from collections import deque
from collections.abc import Container, Iterable
from datetime import UTC, datetime

from msgspec.structs import asdict

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.clock import Timer
from telemetron.collector import Output, Put
from telemetron.document import MAX_ENDED, Ended, Failure
from telemetron_collectors.heartbeats.beat import Beat, BeatEnd, BeatTask
from telemetron_collectors.heartbeats.states import is_over, outcome

SHOW_SECONDS = 0.1
MAX_WAITING = 1_000
"""Ends of one agent that wait to be shown; older ones are only counted."""
_LATEST = datetime.max.replace(tzinfo=UTC)

AgentKey = tuple[str, str | None, str | None]
"""An agent: its name and its namespace; without a namespace, the pod whose namespace it has."""


class EndedTasks:
    """The ended tasks of one agent: those shown, newest first, and those that wait to be shown."""

    def __init__(self, agent: AgentKey) -> None:
        self.agent = agent
        self.count: int | None = None
        self.timer: Timer | None = None
        """Set while ends wait."""
        self._shown: deque[Ended] = deque(maxlen=MAX_ENDED)
        self._waiting: deque[Ended] = deque(maxlen=MAX_WAITING)
        self._full_until = 0.0
        self._room = 0

    def add(self, ends: Iterable[Ended], count: int) -> None:
        """Add ends, oldest first, and the number of all that ended."""
        self._waiting.extend(ends)
        self.count = (self.count or 0) + count

    def show(self, now: float) -> bool:
        """Show as many waiting ends as there is room for now; return whether more wait."""
        if now >= self._full_until:
            self._room = MAX_ENDED
        while self._waiting and self._room:
            self._append(self._waiting.popleft())
            self._room -= 1
            self._full_until = now + SHOW_SECONDS
        return bool(self._waiting)

    def _append(self, end: Ended) -> None:
        """Show an end; it replaces an end with the same identity, as of a task without a time."""
        for old in self._shown:
            if old.id == end.id and old.ended_at == end.ended_at:
                self._shown.remove(old)
                break
        self._shown.appendleft(end)

    def seconds_to_publish(self, now: float) -> float:
        """Return the seconds until all ends so far have been published."""
        turns = -(-len(self._waiting) // MAX_ENDED)
        return max(0.0, self._full_until - now) + SHOW_SECONDS * turns

    def put(self) -> Put:
        """Return the agent's part with its ends."""
        name, namespace, pod_id = self.agent
        part = AgentPart(
            namespace=namespace, pod_id=pod_id, ended=list(self._shown), ended_count=self.count
        )
        return Put("agents", name, key.join("ended", name, namespace, pod_id), part)

    def cancel(self) -> None:
        """Cancel its timer."""
        if self.timer:
            self.timer.cancel()
            self.timer = None


class EndedRegister:
    """The ended tasks of all agents."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._clock = output.clock
        self._agents: dict[AgentKey, EndedTasks] = {}

    def add(self, agent: AgentKey, ends: list[Ended], count: int) -> None:
        """Add ends of an agent, oldest first, and the number of all that ended; publish them."""
        ended = self._agents.get(agent)
        if ended is None:
            ended = self._agents[agent] = EndedTasks(agent)
        elif not (ends or count):
            return
        ended.add(ends, count)
        if ended.timer is None:
            self._show(ended)

    def seconds_to_publish(self, agent: AgentKey) -> float:
        """Return the seconds until all ends of an agent have been published."""
        ended = self._agents.get(agent)
        return ended.seconds_to_publish(self._clock.monotonic()) if ended else 0.0

    def keep(self, name: str, agents: Container[AgentKey]) -> None:
        """Forget all agents of that name but these."""
        for agent in [one for one in self._agents if one[0] == name and one not in agents]:
            ended = self._agents.pop(agent)
            ended.cancel()
            self._output.remove("agents", ended.put().id)

    def parts(self) -> list[Put]:
        """Return the parts of all agents."""
        return [ended.put() for ended in self._agents.values()]

    def close(self) -> None:
        """Cancel all timers."""
        for ended in self._agents.values():
            ended.cancel()

    def _show(self, ended: EndedTasks) -> None:
        """Publish as many ends as a reader of the revisions can see; the others a moment later."""
        ended.timer = None
        if ended.show(self._clock.monotonic()):
            ended.timer = self._clock.call_later(SHOW_SECONDS, self._show, ended)
        put = ended.put()
        self._output.put(put.section, put.group, put.id, put.part)


def ends_of(beat: Beat) -> list[Ended]:
    """Return the ends that a beat lists, and its tasks in a final state, oldest first."""
    ends = sorted([_ended(beat, end, end.ended_at) for end in beat.ended], key=_age)
    ids = {end.id for end in ends}
    return ends + [
        _ended(beat, task) for task in beat.tasks if is_over(task) and task.id not in ids
    ]


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


def last_failure(beat: Beat) -> Failure | None:
    """Return the beat's last failure, or else the last task that it lists as failed."""
    if beat.last_failure:
        return Failure(**asdict(beat.last_failure))
    failed = [end for end in ends_of(beat) if end.status == "failed"]
    return Failure(failed[-1].id, failed[-1].error, failed[-1].ended_at) if failed else None
