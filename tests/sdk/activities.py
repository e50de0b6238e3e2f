"""Activities as tests see them."""

from __future__ import annotations

from telemetron_agent.activity import Activity


class Changes:
    """Counts what an activity tells."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def active(activity: Activity) -> list[str]:
    return [task.id for ref in activity.snapshot(5000)[0] if (task := ref())]


def outcomes(activity: Activity) -> tuple[int, ...]:
    return tuple(activity.snapshot(0)[1]["outcomes"].values())


def ends(activity: Activity) -> list[tuple[str, str, str | None]]:
    return [(task.id, status, error) for _, task, status, error, _ in activity.ends()]


def last_failure(activity: Activity) -> dict[str, str]:
    return activity.snapshot(0)[1]["last_failure"]
