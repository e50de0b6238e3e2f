"""Delays between retries: they double, with jitter, and start again after progress."""

import random

FIRST_SECONDS = 0.25
CAP_SECONDS = 15.0
JITTER = 0.5
# The longest Retry-After that is obeyed.
MAX_RETRY_AFTER_SECONDS = 300.0


class Backoff:
    """Delays that double from `first` to `cap` seconds, each ± 50 %."""

    def __init__(self, first: float = FIRST_SECONDS, cap: float = CAP_SECONDS) -> None:
        self._first = first
        self._cap = cap
        self._delay = first

    def next(self, at_least: float | None = None) -> float:
        """Return the seconds to wait now; at least an upstream's Retry-After, up to 5 minutes."""
        delay = self._delay * random.uniform(1 - JITTER, 1 + JITTER)
        self._delay = min(self._delay * 2, self._cap)
        return max(delay, min(at_least or 0.0, MAX_RETRY_AFTER_SECONDS))

    def reset(self) -> None:
        """Start again with the first delay; call it after progress."""
        self._delay = self._first


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None without one, or if it is a date."""
    seconds = (header or "").strip()
    return float(seconds) if seconds.isdecimal() else None
