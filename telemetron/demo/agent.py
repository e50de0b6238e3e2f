"""One agent process of the demo: `python -m telemetron.demo.agent NAME RUN [BROKER PREFIX]`."""

import signal
import sys
from pathlib import Path

from telemetron.demo import planner, researcher, writer
from telemetron.demo.topic import KafkaClients
from telemetron.demo.worker import AgentWorker

ROLES = {"planner": planner, "researcher": researcher, "writer": writer}


def main(name: str, run: str, broker: str | None = None, prefix: str = "") -> None:
    """Work in the role that the name begins with, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    role = ROLES[name.partition("-")[0]]
    kafka = KafkaClients(broker, name, prefix) if broker else None
    try:
        role.work(AgentWorker(name, Path(run), role.QUEUES, kafka=kafka))
    finally:
        if kafka:
            kafka.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
