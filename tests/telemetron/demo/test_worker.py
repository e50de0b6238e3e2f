"""What the agents of the demo share."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from telemetron.demo.queue import FolderQueue
from telemetron.demo.worker import AgentWorker


def test_a_task_waits_for_a_full_queue(worker: Callable[..., AgentWorker], tmp_path: Path) -> None:
    giver = worker("planner")
    queue = FolderQueue(tmp_path / "small", limit=1)
    with giver.agent.task() as task, ThreadPoolExecutor() as pool:
        giver.give(task, queue, {"id": 1})
        given = pool.submit(giver.give, task, queue, {"id": 2})
        while not task.waits:
            assert not given.done()
        assert [(wait.kind, wait.name) for wait in task.waits] == [("queue", "small")]
        assert giver.take(queue) == {"id": 1}
        given.result(timeout=30)
        assert task.waits == ()
    assert giver.take(queue) == {"id": 2}
