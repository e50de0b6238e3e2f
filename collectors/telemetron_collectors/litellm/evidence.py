"""Whether a deployment answers: judged by what was seen of its calls, and by nothing else."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from telemetron.document import Cooldowns, ModelError
from telemetron_collectors.litellm.fault import is_callers
from telemetron_collectors.litellm.metrics import COOLDOWNS, FAILURES, Series

HEALTHY_SECONDS = 300.0


class Seen(NamedTuple):
    """What happened to one deployment between two looks."""

    succeeded: bool = False
    """A provider's answer, not one from the proxy's cache."""
    failure: Series | None = None
    """The most frequent one that was not the caller's fault."""
    cooldowns: int = 0
    cooldown: Series | None = None
    ended_well: bool = False
    """If some calls succeeded and some failed: the last one succeeded."""
    refused: bool = False
    """The router refused calls that it might have been given."""
    doubtful: bool = False
    """Some failed, and the metrics do not say by whose fault."""


class Cooling(NamedTuple):
    """A cooldown that may still last."""

    until: datetime
    """Its latest possible end."""
    sure_until: float
    """Its earliest possible end, monotonic: from then on nobody knows."""


class Evidence:
    """What was seen of one deployment so far. Times are monotonic, if they are no datetimes."""

    def __init__(self, at: datetime) -> None:
        self.status = "unknown"
        self.since = at
        self.cooldowns = Cooldowns()
        self.last_error: ModelError | None = None
        self.cooling: Cooling | None = None
        self.sees_successes = True
        """Whether the metrics would show one."""
        self._succeeded_at: float | None = None
        self._failed_at: float | None = None
        """When the last call failed; None: none did, or one has succeeded since."""
        self._refused_at: float | None = None
        self._spent_at: float | None = None

    def note(self, seen: Seen, now: float, at: datetime) -> None:
        """Something happened; `now` is monotonic, `at` the wall clock."""
        error = seen.failure or seen.cooldown
        if error:
            self.last_error = ModelError(error.error_class, error.status_code, at)
        if seen.cooldown:
            count = (self.cooldowns.count or 0) + seen.cooldowns
            self.cooldowns = Cooldowns(count, at, seen.cooldown.status_code)
        if seen.succeeded:
            self._succeeded_at, self._refused_at = now, None
        elif seen.refused:
            self._refused_at = now
        elif seen.doubtful:
            self._succeeded_at = None
        if seen.succeeded or error:
            self._failed_at = now if error and not seen.ended_well else None

    def cool(
        self, cooldown_seconds: float | None, last_look: float, now: float, at: datetime
    ) -> None:
        """It was cooled down at some time since the last look.

        One that may be over before the next look is only counted: of a deployment that is cooled
        down again and again the status would change twice between any two looks.
        """
        if cooldown_seconds is not None and cooldown_seconds > 2 * (now - last_look):
            until = at + timedelta(seconds=cooldown_seconds)
            self.cooling = Cooling(until, last_look + cooldown_seconds)

    def spend_out(self, is_spent: bool, now: float) -> None:
        """Whether nothing is left of its budget."""
        if not is_spent:
            self._spent_at = None
        elif self._spent_at is None:
            self._spent_at = now

    def is_spent(self, *, strictly: bool) -> bool:
        """Whether its budget ends its calls; not `strictly`: some callers may have no budget."""
        if self._spent_at is None:
            return False
        return strictly or self._succeeded_at is None or self._succeeded_at <= self._spent_at

    def is_refused(self, now: float) -> bool:
        """Whether calls were refused lately, and none succeeded since."""
        return _is_recent(self._refused_at, now)

    def judge(self, now: float, at: datetime, *, is_heard: bool, is_spent: bool) -> None:
        """What it all means now; not `is_heard`: the proxy has said nothing for too long."""
        if self.cooling and now >= self.cooling.sure_until:
            self.cooling = None
        status = self._status(now, is_spent) if is_heard else "unknown"
        if status != self.status:
            self.status, self.since = status, at

    def changes_at(self, now: float) -> float | None:
        """When the status may be another although nothing happens."""
        times = [
            at + HEALTHY_SECONDS
            for at in (self._succeeded_at, self._refused_at, self._failed_at)
            if at is not None
        ]
        if self.cooling:
            times.append(self.cooling.sure_until)
        return min((time for time in times if time > now), default=None)

    def _is_failing(self, now: float) -> bool:
        """Until one succeeds, if that would be seen."""
        return self._failed_at is not None and (
            self.sees_successes or _is_recent(self._failed_at, now)
        )

    def _status(self, now: float, is_spent: bool) -> str:
        if self.cooling:
            return "cooling_down"
        if self._is_failing(now) or is_spent or self.is_refused(now):
            return "unhealthy"
        return "healthy" if _is_recent(self._succeeded_at, now) else "unknown"


def _is_recent(then: float | None, now: float) -> bool:
    return then is not None and now - then < HEALTHY_SECONDS


def seen(
    rises: Iterable[tuple[Series, float]], *, succeeded: bool, ended_well: bool, refused: bool
) -> Seen:
    """What the rises of one deployment's counters say."""
    rises = list(rises)
    failed = [(rise, one) for one, rise in rises if one.kind == FAILURES and not is_callers(one)]
    failures = [(rise, one) for rise, one in failed if one.error_class or one.status_code]
    cooldowns = [(rise, one) for one, rise in rises if one.kind == COOLDOWNS]
    return Seen(
        succeeded=succeeded,
        failure=_most(failures),
        cooldowns=round(sum(rise for rise, _ in cooldowns)),
        cooldown=_most(cooldowns),
        ended_well=succeeded and ended_well,
        refused=refused,
        doubtful=len(failures) < len(failed),
    )


def _most(counted: list[tuple[float, Series]]) -> Series | None:
    """The most frequent; of equals always the same."""
    return max(counted, key=lambda one: (one[0], str(one[1])))[1] if counted else None
