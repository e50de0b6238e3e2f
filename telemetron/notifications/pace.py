"""The pace: how often, for how long, and how much receivers are sent."""

from msgspec import Struct


class Pace(Struct, frozen=True, kw_only=True):
    """Times in seconds; nothing of it is configured."""

    queue: int = 1_000
    """Events that wait for a receiver."""

    timeout: float = 15.0
    repeat: float = 30.0
    """Between two reports of the active alerts to an Alertmanager."""
    valid: float = 4 * 30.0
    """How long an alert stays active without another report: some may be late or lost."""
    resolved: float = 15 * 60.0
    """How long the end of an alert is reported."""
    least: float = 1.0
    """Between two reports, or two events of changes, however much changes."""
    retries: tuple[float, ...] = (5.0, 30.0, 300.0, 1_800.0, 7_200.0, 28_800.0)
    """Before an event is sent again; the last wait repeats."""
    newest: float = 300.0
    """The longest wait of a receiver for which there is a new event."""
    confirm: float = 60.0
    """Between two confirmations that a receiver has everything."""
    grace: float = 300.0
    """How long sources must have been in sight after a break before a finding that is gone is over.

    Until then it may come back, as its hold begins again; the diagnosis recalls findings as long.
    """
    tick: float = 5.0
    """Between two looks at findings that may be over."""


DEFAULTS = Pace()
