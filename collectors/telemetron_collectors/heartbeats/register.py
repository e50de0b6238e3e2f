"""The register: every instance that beat, until it is forgotten, and its timers."""

from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.collector import Output, Put
from telemetron.document import Problem
from telemetron.http import HttpProblem
from telemetron.nearest import similar
from telemetron.normal import normalized
from telemetron_collectors.heartbeats.beat import Beat, is_normal
from telemetron_collectors.heartbeats.ended import EndedRegister, ends_of, last_failure
from telemetron_collectors.heartbeats.life import GOODBYE_SECONDS, AgentKey, InstanceKey, Life
from telemetron_collectors.heartbeats.part import part_of


class RegisterLimits(NamedTuple):
    """The most agents, instances, boots and goodbyes that are remembered."""

    agents: int = 10_000
    instances: int = 30_000
    instances_per_agent: int = 1_000
    goodbyes: int = 10_000


LIMITS = RegisterLimits()
# A wrong name is compared with these; all 10,000 would take 10 ms of the event loop.
MAX_COMPARED_AGENTS = 2_000
FORGET_LAST_SECONDS = 24 * 3600.0
# An offset is shown from 2 s on, and published again only if it moves by 1 s.
MIN_OFFSET_SECONDS = 2.0
OFFSET_STEP_SECONDS = 1.0

DUPLICATE = "another process beats under the same instance id; give each process its own id"


class Register:
    """All instances that have beaten and are not forgotten."""

    def __init__(
        self,
        output: Output,
        *,
        stall_after: float,
        forget_after: float,
        limits: RegisterLimits = LIMITS,
    ) -> None:
        self._output = output
        self._clock = output.clock
        self._stall_after = stall_after
        self._forget_after = forget_after
        self._limits = limits
        self._agents: dict[str, dict[InstanceKey, Life]] = {}
        self._ended = EndedRegister(output.clock, self._publish_ended)
        self._count = 0
        self._goodbyes: OrderedDict[tuple[InstanceKey, str | None], float] = OrderedDict()
        """Boots that have said goodbye, and until when their late beats are dropped."""
        self.closed = False
        """Set at the end of the run: it can no longer publish."""

    def beat(self, name: str, sent: Beat, body: bytes | None = None) -> None:
        """Apply a beat, or drop it if it is not newer; raise HttpProblem 429 at a limit.

        `body`: its JSON, which tells, only if the beat has news, whether it has to be normalized.
        """
        where = name, sent.namespace, sent.instance
        now = self._clock.monotonic()
        life = self._agents.get(name, {}).get(where)
        if life is not None and self._is_repeated(life, sent):
            return life.hear(sent, now)
        beat = sent if body is not None and is_normal(body) else normalized(sent)
        if life is not None and life.leaving:
            self._forget(life)
            life = None
        if life is None:
            if self._goodbyes.get((where, beat.boot_id), 0.0) > now:
                return self._output.count("beats_dropped")
            life = self._add(where, beat, now)
        elif life.begins_new_life(beat, now):
            life.begin(beat, now, self._clock.now())
        elif beat.boot_id != life.beat.boot_id or not life.is_later(beat):
            self._output.count("beats_dropped")
            return self._note_duplicate(life, beat, now)
        return self._apply(life, beat, sent, now)

    def _apply(self, life: Life, beat: Beat, sent: Beat, now: float) -> None:
        agent = life.agent
        ends = ends_of(beat)
        life.hear(beat, now)
        life.offset = self._offset(life, beat)
        life.apply(beat, sent, last_failure(beat, ends), now)
        if life.agent != agent:
            self._pass_on_ended(life, agent)
        new, count = life.end_tasks(ends)
        if count is not None:
            self._ended.add(life, new, count)
        self._publish(life, now)

    def goodbye(self, name: str, id: str, namespace: str | None = None) -> None:
        """Forget an instance at once; raise HttpProblem 404 if it is unknown, 409 if ambiguous.

        The namespace `-` means none, as in a key.
        """
        lives = [
            life
            for where, life in self._agents.get(name, {}).items()
            if where[2] == id and namespace in (None, where[1] or "-") and not life.leaving
        ]
        if not lives:
            raise self._unknown(name, id)
        if len(lives) > 1:
            spaces = sorted(str(life.where[1] or "-") for life in lives)
            detail = f"{id!r} is in several namespaces; add ?namespace= with one of them"
            raise HttpProblem(409, detail, namespaces=spaces)
        now = self._clock.monotonic()
        if not lives[0].is_shared(now):
            self._remember_goodbye(lives[0])
        self._leave(lives[0])

    def _unknown(self, name: str, id: str) -> HttpProblem:
        """Return a 404 that names similar instances of the agent, or similar agents."""
        if lives := self.lives(name):
            detail = f"agent {name!r} has no instance {id!r}"
            near = similar(id, {life.where[2] for life in lives})
        else:
            detail = f"agent {name!r} has no instance {id!r}: no agent has this name"
            near = similar(name, islice(self._agents, MAX_COMPARED_AGENTS))
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return HttpProblem(404, detail + hint, nearest=near)

    def lives(self, name: str) -> list[Life]:
        """Return the instances of the agents of that name, in all namespaces."""
        return [life for life in self._agents.get(name, {}).values() if not life.leaving]

    def parts(self) -> list[Put]:
        """Return all instances, for a replacement of the source's parts."""
        now = self._clock.monotonic()
        lives = [life for agent in self._agents.values() for life in agent.values()]
        return [Put("agents", life.where[0], life.part_id, self._part(life, now)) for life in lives]

    def close(self) -> None:
        """Cancel all timers."""
        self.closed = True
        for agent in self._agents.values():
            for life in agent.values():
                for timer in filter(None, (life.timer, life.leaving)):
                    timer.cancel()
        self._ended.close()

    def _add(self, where: InstanceKey, beat: Beat, now: float) -> Life:
        agent = self._agents.get(where[0], {})
        if not agent and len(self._agents) >= self._limits.agents:
            raise _full("agents", self._limits.agents)
        if len(agent) >= self._limits.instances_per_agent:
            raise _full("instances of one agent", self._limits.instances_per_agent)
        if self._count >= self._limits.instances:
            raise _full("instances", self._limits.instances)
        self._count += 1
        life = Life(where, beat, now, self._clock.now())
        self._agents.setdefault(where[0], {})[where] = life
        return life

    def _remember_goodbye(self, life: Life) -> None:
        """Remember all its boots, so that their late beats are dropped."""
        until = self._clock.monotonic() + GOODBYE_SECONDS
        for boot in filter(None, (life.beat.boot_id, *life.boots)):
            self._goodbyes[life.where, boot] = until
        while len(self._goodbyes) > self._limits.goodbyes:
            self._goodbyes.popitem(last=False)

    def _leave(self, life: Life) -> None:
        """Forget it; the last instance of an agent as soon as its last ends have been published."""
        others = [one for one in self.lives(life.where[0]) if one.agent == life.agent]
        delay = self._ended.seconds_to_publish(life.agent) if others == [life] else 0.0
        if delay:
            life.leaving = self._clock.call_later(delay, self._forget, life)
        else:
            self._forget(life)

    def _pass_on_ended(self, life: Life, agent: AgentKey) -> None:
        """Let another instance of the agent show the ended tasks that this one held."""
        self._ended.pass_on(agent, life, self._agents.get(life.where[0], {}).values())

    def _forget(self, life: Life) -> None:
        for timer in filter(None, (life.timer, life.leaving)):
            timer.cancel()
        agent = self._agents[life.where[0]]
        del agent[life.where]
        if not agent:
            del self._agents[life.where[0]]
        self._count -= 1
        self._output.remove("agents", life.part_id)
        self._pass_on_ended(life, life.agent)

    def _note_duplicate(self, life: Life, beat: Beat, now: float) -> None:
        """Report a process that still beats long after another took over its instance id."""
        if beat.boot_id == life.beat.boot_id:
            return
        life.duplicated = now
        if not life.duplicate and now - life.began >= GOODBYE_SECONDS:
            message = f"instance {life.beat.instance}: {DUPLICATE}"
            life.duplicate = Problem("DuplicateInstance", message, self._clock.now())
            self._publish(life, now)

    def _is_repeated(self, life: Life, beat: Beat) -> bool:
        """Return whether a beat has no news of a live instance."""
        return (
            not (life.silent_since or life.duplicate or life.leaving)
            and life.is_repeated_by(beat)
            and self._offset(life, beat) == life.offset
        )

    def _offset(self, life: Life, beat: Beat) -> float | None:
        """Return how far the agent's clock is ahead, in steps, so that jitter changes nothing."""
        if beat.sent_at is None:
            return None
        offset = (beat.sent_at - self._clock.now()).total_seconds()
        if life.offset is not None and abs(offset - life.offset) < OFFSET_STEP_SECONDS:
            return life.offset
        return round(offset, 1) if abs(offset) >= MIN_OFFSET_SECONDS else None

    # timers

    def _publish(self, life: Life, now: float) -> None:
        self._put(life, self._part(life, now))
        self._set_timer(life, now)

    def _publish_ended(self, holder: Life) -> None:
        """Publish an instance with the present ended tasks of its agent, and else as it was."""
        ended = self._ended.held_by(holder)
        if ended and holder.part:
            self._put(holder, replace(holder.part, ended=ended.shown, ended_count=ended.count))

    def _put(self, life: Life, part: AgentPart) -> None:
        life.part = part
        self._output.put("agents", life.where[0], life.part_id, part, is_checked=True)

    def _set_timer(self, life: Life, now: float) -> None:
        """Set one timer for silence, stalls and forgetting; unchanged beats never cancel it.

        Since it was set, only deadlines that are later than `soonest` were added.
        """
        soonest = now + min(self._stall_after, life.max_silence())
        if life.timer and life.due <= soonest and not life.silent_since:
            return
        due = min(self._deadlines(life, now))
        if life.timer and life.due <= due:
            return
        if life.timer:
            life.timer.cancel()
        life.due = due
        life.timer = self._clock.call_later(due - now, self._on_timer, life)

    def _deadlines(self, life: Life, now: float) -> Iterator[float]:
        if life.silent_since:
            forget = life.last_beat_at + self._forget_after
            yield forget if forget > now else now + self._forget_after
            yield life.last_beat_at + max(FORGET_LAST_SECONDS, self._forget_after)
            return
        yield life.silent_at()
        for _, since in life.progress.values():
            if since + self._stall_after > now:
                yield since + self._stall_after

    def _on_timer(self, life: Life) -> None:
        life.timer = None
        now = self._clock.monotonic()
        if life.silent_since and self._is_over(life, now):
            self._forget(life)
            return
        if not life.silent_since and life.silent_at() <= now:
            life.silent_since = self._clock.now() - timedelta(
                seconds=round(now - life.last_beat_at, 3)
            )
            life.duplicate = None
        self._publish(life, now)

    def _is_over(self, life: Life, now: float) -> bool:
        """Return whether it is forgotten now; an agent's last instance stays for a day."""
        name, namespace, _ = life.where
        last = sum(where[1] == namespace for where in self._agents[name]) == 1
        patience = max(FORGET_LAST_SECONDS, self._forget_after) if last else self._forget_after
        return now >= life.last_beat_at + patience

    def _part(self, life: Life, now: float) -> AgentPart:
        ended = self._ended.held_by(life)
        return part_of(life, ended, self._output.source, now, self._stall_after)


def _full(what: str, most: int) -> HttpProblem:
    detail = f"{most:,} {what} are known already; send a goodbye for the ones that have ended"
    return HttpProblem(429, detail, {"retry-after": "60"}, limit=most)
