"""Which of the media types that an answer can have a client would rather take."""

import re
from collections.abc import Iterator, Sequence

_Q = re.compile(r"[0-9](\.[0-9]{0,9})?")


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """The offer that an `Accept` header likes best (RFC 9110, 12.5.1); among equals the first.

    None: it takes none of them. A missing header takes all.
    """
    ranges = list(_ranges(accept)) or [("*/*", 1.0)]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    return best if _quality(best, ranges) > 0 else None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for item in accept.lower().split(","):
        media, *parameters = [part.strip() for part in item.split(";")]
        q = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if media:
            yield media, _number(q)


def _number(q: str) -> float:
    return min(float(q), 1.0) if _Q.fullmatch(q) else 0.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """That of the most specific range that the offer is in; of several, the highest."""
    for media in (offer, offer.partition("/")[0] + "/*", "*/*"):
        found = [q for name, q in ranges if name == media]
        if found:
            return max(found)
    return 0.0
