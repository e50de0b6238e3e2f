"""A Celery worker that reports its tasks to Telemetron; its broker is a folder.

`TELEMETRON_URL=… python celery_worker.py FOLDER` queues three tasks and works until Ctrl-C.
Needs: pip install telemetron-agent celery
"""

import sys
import time
from pathlib import Path

from celery import Celery

from telemetron_agent import Agent, current
from telemetron_agent.celery import instrument_celery

instrument_celery(Agent("celery", interval=1))  # the only line for Telemetron

folder = Path(sys.argv[-1])
folder.mkdir(exist_ok=True)
app = Celery("examples", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder),
    "data_folder_out": str(folder),
    "control_folder": str(folder / "control"),
}
app.conf.task_default_queue = "questions"


@app.task(name="research")
def research(subject: str) -> str:
    with current().wait("llm", "stand-in"):
        time.sleep(0.6)  # a fake model
    current().progress("ranked")
    return f"Facts about {subject}."


if __name__ == "__main__":
    for subject in ("tides", "maps", "soil"):
        research.delay(subject)
    app.worker_main(["worker", "--concurrency=2", "--loglevel=warning", "--without-gossip"])
