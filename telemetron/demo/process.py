"""Helpers for the demo's processes: free ports, and how a process is stopped."""

import socket
import subprocess
import time
from collections.abc import Sequence

STOP_SECONDS = 1.2


def free_port(wanted: int = 0) -> int:
    """Return the wanted port of loopback, or any free one for 0; raise OSError if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        port: int = probe.getsockname()[1]
        return port


def stop(processes: Sequence["subprocess.Popen[bytes]"], seconds: float = STOP_SECONDS) -> None:
    """Terminate the processes, kill the ones that still run after `seconds`, and reap all."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
