"""What the four agents have in common: their queues, their pace, and the faults one can ask for."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetron.demo import models
from telemetron.demo.broker import TOPICS
from telemetron.demo.queue import RECORD, FolderQueue, Item, Queue
from telemetron.demo.topic import Kafka, TopicQueue
from telemetron_agent import Agent, Task

POLL = 0.2
"""Seconds between two looks at a queue."""
TAKEN_BY = {"sections": "researcher", "findings": "writer"}
"""Which agent takes from a queue."""


class Worker:
    """One agent process, `researcher-1` of agent `researcher`, in the run's folder.

    `touch RUN/hang-NAME` makes it hang in its next task until the file is gone; `touch
    RUN/crash-NAME` makes it die there. `pace` is how many seconds a step takes, so that one can
    watch it: the work itself takes less than a blink.
    """

    def __init__(
        self,
        name: str,
        run: Path,
        queues: list[str],
        pace: float = 1.0,
        kafka: Kafka | None = None,
    ) -> None:
        self.name = name
        self._kafka = kafka
        self._queues: dict[str, Queue] = {}
        self.run = run
        self.agent = Agent(
            name.partition("-")[0],
            instance=name,
            interval=1.0,
            queues=queues,
            models=[models.MODEL] if self._calls_models() else [],
            max_parallel=1,
        )
        self._pace = pace
        self._parent = os.getppid()

    def queue(self, name: str) -> Queue:
        """The queue of that name: a topic where there is a broker, else a folder."""
        if name not in self._queues:
            self._queues[name] = (
                TopicQueue(self._kafka, name, TAKEN_BY[name], TOPICS[name])
                if self._kafka
                else FolderQueue(self.run / "queues" / name)
            )
        return self._queues[name]

    def task(self, item: Item, queue: str) -> Task:
        """Begin the task that an item is; one that is a record is told by that."""
        return self.agent.task(
            item.get(RECORD, item["id"]), parent_id=item["parent_id"], queue=queue
        )

    def take(self, queue: Queue) -> Item:
        """The next item; being idle until there is one."""
        while (item := queue.claim(self.name)) is None:
            self.sleep(POLL)
        return item

    def give(self, task: Task, queue: Queue, item: Item) -> None:
        """Hand an item over; a full queue is what the task then waits for."""
        if not queue.put(item):
            with task.wait("queue", queue.name):
                while not queue.put(item):
                    self.sleep(POLL)

    def step(self, task: Task, step: str) -> None:
        """Go on to the next step of a task."""
        task.progress(step)
        self.sleep(self._pace)

    @contextmanager
    def tool(self, task: Task, name: str) -> Iterator[None]:
        """Use a tool: the task waits for it, and this is where a fault strikes."""
        task.progress(f"using the tool {name}")
        with task.wait("tool", name):
            self.sleep(self._pace)
            if (self.run / f"crash-{self.name}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            while (self.run / f"hang-{self.name}").exists():
                self.sleep(POLL)
            yield

    def ask(self, task: Task, text: str) -> list[str] | None:
        """The lines a model says to a text; None: it does not answer, or there is none."""
        if not self._calls_models():
            return None
        with task.wait("llm", models.MODEL):
            said = models.ask(text)
        return said.splitlines() if said else None

    def _calls_models(self) -> bool:
        return models.URL in os.environ and self.name.startswith("researcher")

    def sleep(self, seconds: float) -> None:
        """Sleep; ends the process when the one that started it is gone."""
        if os.getppid() != self._parent:
            sys.exit()
        time.sleep(seconds)
