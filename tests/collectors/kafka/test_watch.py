"""Against the embedded broker: the right numbers, and what becomes of them."""

import asyncio
import json
from typing import Any


def tasks(first: int, last: int) -> list[bytes]:
    return [json.dumps({"id": f"t{n}", "prompt": f"do {n}"}).encode() for n in range(first, last)]


async def test_what_waits_and_what_is_done(broker: Any, topic: str, watch: Any) -> None:
    await asyncio.to_thread(broker.create, topic)
    await asyncio.to_thread(broker.produce, topic, *tasks(0, 5))
    await asyncio.to_thread(broker.commit, topic, "g", 2)
    async with watch(broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 3)
        assert (queue.depth, queue.depth_exact, queue.lag) == (3, True, 3)
        assert [task.id for task in queue.tasks] == ["t2", "t3", "t4"]
        assert queue.tasks[0].prompt is None
        assert queue.consumed_at is None

        await asyncio.to_thread(broker.produce, topic, *tasks(5, 6))
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 4)
        assert queue.produced_at is not None
        await asyncio.to_thread(broker.commit, topic, "g", 6)
        queue = await watched.queue_until(topic, lambda q: q.depth == 0)
        assert queue.tasks == []
        assert queue.consumed_at is not None
