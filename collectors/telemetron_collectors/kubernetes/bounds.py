"""The collector's limits and durations, in one place. Tests pass shorter ones."""

from msgspec import Struct


class Bounds(Struct, frozen=True):
    """Limits and durations; each has the value that production uses."""

    # Requests
    connect_seconds: float = 5.0
    answer_seconds: float = 10.0
    body_bytes: int = 256 * 1024 * 1024
    first_retry_seconds: float = 0.25
    max_retry_seconds: float = 15.0
    probe_retry_seconds: float = 10.0
    """The longest pause between two requests to an unreachable server."""

    # Watches
    watch_seconds: tuple[int, int] = (300, 600)
    """The server ends each watch after a random time between these, as client-go asks for."""
    silence_seconds: float = 70.0
    """A watch without an event for this long is opened again; bookmarks come every 60 s."""
    list_silence_seconds: float = 5.0
    """A streamed list that pauses for this long does not end: the server ignored the request."""
    list_seconds: float = 30.0
    resume_seconds: float = 1.0
    """A resumed watch receives missed events, or 410, within this time."""
    page_items: int = 500
    line_bytes: int = 16 * 1024 * 1024

    # The state and the document
    objects: int = 50_000
    """The most objects of a kind; the four kinds of workloads count together."""
    first_seconds: float = 10.0
    """The first document appears by then, even if not every kind is listed."""
    owner_seconds: float = 2.0
    """A pod that arrives before its owner is published without it after this time."""
    poll_seconds: float = 45.0
    sample_seconds: float = 60.0
    """metrics-server takes a sample every 15 to 60 s."""
    parallel_nodes: int = 4


DEFAULTS = Bounds()
