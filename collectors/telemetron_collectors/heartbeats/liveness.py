"""Whether an agent is alive, by evidence alone: what is not known is never held against it."""

from collections.abc import Sequence

from telemetron_collectors.heartbeats.register import Life, is_over


def why_dead(
    lives: Sequence[Life], now: float, *, max_silence: float = 0.0, max_stall: float | None = None
) -> str | None:
    """Why the agent hangs or is gone, in a line; None where there is no evidence of it.

    Of each instance, silence is what is beyond `max_silence`, and beyond three of its intervals. No
    instance must beat, or none of those that beat get on, for the agent to be dead: one that works
    would die with the others. `max_stall` None: not judged.
    """
    if not lives:
        return None
    beating = [life for life in lives if now - life.heard <= max(max_silence, life.patience())]
    if not beating:
        return f"no heartbeat for {now - max(life.heard for life in lives):.0f} s"
    if max_stall is None:
        return None
    stalls = [_stall(life, now) for life in beating]
    limits = [max(max_stall, life.patience()) for life in beating]
    if all(stall > limit for stall, limit in zip(stalls, limits, strict=True)):
        return f"no task has got on for {min(stalls):.0f} s"
    return None


def _stall(life: Life, now: float) -> float:
    """Since when none of its tasks got on, seconds; 0 where a task does not say, or there is none.

    By Telemetron's own clock, and only as far back as it saw.
    """
    beat = life.beat
    ids = [task.id for task in beat.tasks if not is_over(task)]
    if not ids or len(ids) < (beat.task_count or 0) or not life.progress.keys() >= set(ids):
        return 0.0
    return now - max(life.progress[id][1] for id in ids)
