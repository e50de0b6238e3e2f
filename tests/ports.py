"""TCP ports for tests."""

import socket
from random import SystemRandom

# Below the ports that Linux gives to clients: none of them takes one before its server listens.
FIRST, LAST = 12_000, 32_000
_random = SystemRandom()  # Hypothesis seeds the other one, alike in all processes


def free_port() -> int:
    """Return a port of loopback on which nothing listens now."""
    while True:
        port = _random.randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
