"""What the four agents share: queues, pace, and the faults that a user can trigger."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetron.demo import models
from telemetron.demo.queue import RECORD, FolderQueue, Item, WorkQueue
from telemetron.demo.topic import KafkaClients, KafkaQueue
from telemetron_agent import Agent, Task

POLL_SECONDS = 0.2
"""Seconds between two looks at a queue."""


class AgentWorker:
    """One agent process, `researcher-1` of agent `researcher`, in the run's folder.

    `touch RUN/hang-NAME` makes it hang in its next task until the file is gone; `touch
    RUN/crash-NAME` makes it die there. `pace` is the seconds that each step takes: the work itself
    is too fast to watch.
    """

    def __init__(
        self,
        name: str,
        run: Path,
        queues: list[str],
        pace: float = 1.0,
        kafka: KafkaClients | None = None,
    ) -> None:
        self.name = name
        self._kafka = kafka
        self._queues: dict[str, WorkQueue] = {}
        self.run = run
        self.agent = Agent(
            name.partition("-")[0],
            instance=name,
            interval=1.0,
            queues=[(kafka.prefix if kafka else "") + queue for queue in queues],
            models=[models.MODEL] if self._calls_models() else [],
            max_parallel=1,
        )
        self._pace = pace
        self._parent = os.getppid()

    def queue(self, name: str) -> WorkQueue:
        """Return the queue of that name: a topic if there is a broker, else a folder."""
        if name not in self._queues:
            self._queues[name] = (
                KafkaQueue(self._kafka, name)
                if self._kafka
                else FolderQueue(self.run / "queues" / name)
            )
        return self._queues[name]

    def task(self, item: Item, queue: str) -> Task:
        """Begin the task of an item; a Kafka record gives the task its id, queue and offset."""
        return self.agent.task(
            item.get(RECORD, item["id"]), parent_id=item["parent_id"], queue=self.queue(queue).name
        )

    def take(self, queue: WorkQueue) -> Item:
        """Wait for the next item of the queue and return it."""
        while (item := queue.claim(self.name)) is None:
            self.sleep(POLL_SECONDS)
        return item

    def give(self, task: Task, queue: WorkQueue, item: Item) -> None:
        """Hand an item over; the task waits while the queue is full."""
        if not queue.put(item):
            with task.wait("queue", queue.name):
                while not queue.put(item):
                    self.sleep(POLL_SECONDS)

    def step(self, task: Task, step: str) -> None:
        """Begin the next step of a task and pause for the pace."""
        task.progress(step)
        self.sleep(self._pace)

    @contextmanager
    def tool(self, task: Task, name: str) -> Iterator[None]:
        """Use a tool: the task waits for it, and hangs or crashes here if the user asked for it."""
        task.progress(f"using the tool {name}")
        with task.wait("tool", name):
            self.sleep(self._pace)
            if (self.run / f"crash-{self.name}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            while (self.run / f"hang-{self.name}").exists():
                self.sleep(POLL_SECONDS)
            yield

    def ask(self, task: Task, text: str) -> list[str] | None:
        """Return the lines a model answers to a text, or None if there is no model or no answer."""
        if not self._calls_models():
            return None
        with task.wait("llm", models.MODEL):
            answer = models.ask(text)
        return answer.splitlines() if answer else None

    def _calls_models(self) -> bool:
        return models.URL in os.environ and self.name.startswith("researcher")

    def sleep(self, seconds: float) -> None:
        """Sleep; end this process if the demo that started it is gone."""
        if os.getppid() != self._parent:
            sys.exit()
        time.sleep(seconds)
