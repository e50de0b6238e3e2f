"""How long to wait before the next try: ever longer, with jitter, short again after progress."""

import random

FIRST_SECONDS = 0.25
CAP_SECONDS = 15.0
JITTER = 0.5
# An upstream that asks for more is asked again all the same.
MAX_RETRY_AFTER_SECONDS = 300.0


class Backoff:
    """Delays that double from `first` to `cap` seconds, each ± 50 %."""

    def __init__(self, first: float = FIRST_SECONDS, cap: float = CAP_SECONDS) -> None:
        self._first = first
        self._cap = cap
        self._delay = first

    def next(self, at_least: float | None = None) -> float:
        """Seconds to wait now; `at_least` is an upstream's Retry-After, which is obeyed."""
        delay = self._delay * random.uniform(1 - JITTER, 1 + JITTER)
        self._delay = min(self._delay * 2, self._cap)
        return max(delay, min(at_least or 0.0, MAX_RETRY_AFTER_SECONDS))

    def reset(self) -> None:
        """There was progress."""
        self._delay = self._first


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for; None without one, or with its form of a date."""
    seconds = (header or "").strip()
    return float(seconds) if seconds.isdecimal() else None
