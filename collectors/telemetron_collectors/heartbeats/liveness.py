"""The liveness of an agent: it counts as dead only on evidence, never on missing data."""

from collections.abc import Sequence

from telemetron_collectors.heartbeats.life import Life


def why_dead(
    lives: Sequence[Life], now: float, *, max_silence: float = 0.0, max_stall: float | None = None
) -> str | None:
    """Return why the agent hangs or is gone, in one line, or None without evidence of that.

    The agent counts as dead only if every instance is silent or every beating instance is stalled;
    restarting it would kill a working one. An instance is silent after `max_silence`, and at least
    three of its intervals. If `max_stall` is None, stalls are not judged.
    """
    if not lives:
        return None
    beating = [
        life for life in lives if now - life.last_beat_at <= max(max_silence, life.max_silence())
    ]
    if not beating:
        return f"no heartbeat for {now - max(life.last_beat_at for life in lives):.0f} s"
    if max_stall is None:
        return None
    stalls = [_stall(life, now) for life in beating]
    limits = [max(max_stall, life.max_silence()) for life in beating]
    if all(stall > limit for stall, limit in zip(stalls, limits, strict=True)):
        return f"no task has made progress for {min(stalls):.0f} s"
    return None


def _stall(life: Life, now: float) -> float:
    """Return the seconds since any task made progress; 0 without tasks, or if one reports none.

    Measured by Telemetron's clock, from the first beat with that progress.
    """
    ids = [task.id for task in life.tasks]
    if not ids or len(ids) < life.task_count or not life.progress.keys() >= set(ids):
        return 0.0
    return now - max(life.progress[id][1] for id in ids)
