"""One agent process: `python -m telemetron.demo.agent NAME RUN [BROKER]`, as the demo starts it."""

import signal
import sys
from pathlib import Path

from telemetron.demo import planner, researcher, writer
from telemetron.demo.topic import Kafka
from telemetron.demo.worker import Worker

ROLES = {"planner": planner, "researcher": researcher, "writer": writer}


def main(name: str, run: str, broker: str | None = None) -> None:
    """Work in the role that the name begins with, until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    role = ROLES[name.partition("-")[0]]
    kafka = Kafka(broker, name) if broker else None
    try:
        role.work(Worker(name, Path(run), role.QUEUES, kafka=kafka))
    finally:
        if kafka:
            kafka.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
