"""Content negotiation: the media type that a client prefers, and whether it accepts gzip."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

_Q = re.compile(r"[0-9](\.[0-9]{0,9})?")


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """Return the offer with the highest quality in `Accept` (RFC 9110, 12.5.1); the first if equal.

    None: the client accepts none of them. A missing header accepts all.
    """
    ranges = list(_qualities(accept)) or [("*/*", 1.0)]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    return best if _quality(best, ranges) > 0 else None


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether the client accepts gzip (RFC 9110, 12.5.3)."""
    qualities = dict(_qualities(accept_encoding.decode("latin-1")))
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _qualities(header: str) -> Iterator[tuple[str, float]]:
    """Yield each value of the list with its quality; 0 if the quality is not a valid number."""
    for item in header.lower().split(","):
        value, *parameters = [part.strip() for part in item.split(";")]
        q = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if value:
            yield value, min(float(q), 1.0) if _Q.fullmatch(q) else 0.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that matches; the highest of several."""
    for media in (offer, offer.partition("/")[0] + "/*", "*/*"):
        found = [q for name, q in ranges if name == media]
        if found:
            return max(found)
    return 0.0
