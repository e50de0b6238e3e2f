"""A Celery task can succeed, fail, retry, be replaced or requeued, ignore, call another."""

import os
import signal
import sys
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import Ignore, Reject

from telemetron_agent import Agent, current
from telemetron_agent.celery import instrument_celery

agent = Agent("celery", interval=60, instance="worker")
instrument_celery(agent)
instrument_celery(agent)
folder = Path(sys.argv[1])
app = Celery("program", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder),
    "data_folder_out": str(folder),
    "control_folder": str(folder / "control"),
}
app.conf.task_default_queue = "questions"


@app.task(name="work")
def work():
    current().progress("asking")
    with current().wait("llm", "m"):
        agent.flush(10)  # tells this moment


@app.task(name="fail")
def fail():
    raise KeyError("a secret")


@app.task(name="retry", bind=True, max_retries=2)
def retry(self):
    agent.flush(10)
    if self.request.retries < 2:
        raise self.retry(exc=ValueError("a secret"), countdown=0)


@app.task(name="ignore")
def ignore():
    raise Ignore


@app.task(name="reject", acks_late=True)
def reject():
    raise Reject("never", requeue=False)


@app.task(name="hang", time_limit=1)
def hang():
    agent.flush(10)
    time.sleep(60)


@app.task(name="die")
def die():
    agent.flush(10)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="replace", bind=True)
def replace(self):
    raise self.replace(work.s())


@app.task(name="requeue", acks_late=True)
def requeue():
    seen = folder.parent / "requeued"
    if not seen.exists():
        seen.touch()
        raise Reject("not now", requeue=True)


@app.task(name="parent")
def parent():
    work.apply_async(task_id="child")
    retry.apply_async(task_id="retried")


@app.task(name="end")
def end():
    agent.flush(10)


if __name__ == "__main__":
    if sys.argv[2:] == ["killed"]:
        hang.apply_async(task_id="hang")
        die.apply_async(task_id="die")
        work.apply_async(task_id="expired", expires=-1)
        work.apply_async(task_id="work")
    else:
        for task in (work, fail, retry, replace, requeue, reject, ignore, parent):
            task.apply_async(task_id=task.name)
    app.worker_main(["worker", "--concurrency=1", "--loglevel=error", "--without-gossip"])
