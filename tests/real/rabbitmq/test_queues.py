"""What a real node says of its queues, consumers, dead letters and permissions."""

import pika
import pytest

from telemetron.clock import Clock
from telemetron.testing import RecordingOutput
from tests.collectors.rabbitmq.bench import Bench
from tests.real.rabbitmq.broker import Rabbit


def publish(rabbit: Rabbit, queue: str, number: int, **properties: int) -> None:
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for _ in range(number):
            channel.basic_publish("", queue, b"{}", pika.BasicProperties(**properties))


def shows(name: str, **fields: object):
    """Whether a queue is shown with these fields."""

    def is_so(bench: Bench) -> bool:
        queue = bench.queues.get(name)
        return queue is not None and all(getattr(queue, it) == fields[it] for it in fields)

    return is_so


async def test_a_named_queue(rabbit: Rabbit, bench: Bench) -> None:
    rabbit.queue("plans")
    publish(rabbit, "plans", 5, timestamp=1_900_000_000)
    bench.start(queues=["plans"], interval_seconds=0.2)
    await bench.until(shows("plans", depth=5, consumers=0, unacknowledged=0))
    plans = bench.queues["plans"]
    assert (plans.depth_exact, plans.group_state, plans.consumer_group) == (True, "running", None)
    assert plans.oldest_submitted_at.timestamp() == 1_900_000_000
    assert (plans.produced_at, plans.consumed_at) == (None, None)
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2)
        taken = channel.consume("plans", inactivity_timeout=30)
        first, *_ = next(taken)
        await bench.until(shows("plans", depth=3, consumers=1, unacknowledged=2))
        (member,) = bench.queues["plans"].members
        assert member.host == "127.0.0.1"
        channel.basic_ack(first.delivery_tag)
        await bench.until(lambda it: it.queues["plans"].consumed_at is not None)
        channel.cancel()
    publish(rabbit, "plans", 1)
    await bench.until(lambda it: it.queues["plans"].produced_at is not None)


@pytest.mark.parametrize("by", ["list", "metrics"])
async def test_all_queues(rabbit: Rabbit, bench: Bench, by: str) -> None:
    work, dead, later, log = (f"{name}-{by}" for name in ("work", "dead", "later", "log"))
    declare(rabbit, work, dead, later, log)
    for name in (work, later, log):
        publish(rabbit, name, 3)
    urls = {"metrics_urls": (rabbit.metrics_url,)} if by == "metrics" else {}
    bench.start(interval_seconds=0.2, **urls)
    consumers = 0 if by == "metrics" else None
    await bench.until(shows(work, depth=3, consumers=consumers, depth_exact=True))
    await bench.until(shows(work, dead_letters_of=[later]))
    await bench.until(shows(dead, depth=0, dead_letters_of=[work]))
    await bench.until(shows(later, depth=3, message_ttl_seconds=600.0))
    await bench.until(shows(log, depth=None, depth_exact=None))
    assert bench.problems()["vhost closed"] == "Forbidden"


def declare(rabbit: Rabbit, work: str, dead: str, later: str, log: str) -> None:
    """A queue of work, one for what it gives up, one that delays, and a stream."""
    exchange = f"{work}-given-up"
    rabbit.put(f"/exchanges/%2F/{exchange}", type="direct")
    rabbit.queue(work, dead_letter_exchange=exchange, dead_letter_routing_key="k")
    rabbit.queue(dead, queue_type="quorum")
    rabbit.post(f"/bindings/%2F/e/{exchange}/q/{dead}", routing_key="k")
    rabbit.queue(later, message_ttl=600_000, dead_letter_exchange="", dead_letter_routing_key=work)
    rabbit.queue(log, queue_type="stream")


async def test_consumers_by_metrics(rabbit: Rabbit, bench: Bench) -> None:
    rabbit.queue("busy")
    publish(rabbit, "busy", 3)
    bench.start(interval_seconds=0.2, metrics_urls=(rabbit.metrics_url,))
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.basic_consume("busy", lambda *_: None)
        await bench.until(shows("busy", depth=0, consumers=1, unacknowledged=3))
        channel.queue_purge("busy")
    await bench.until(shows("busy", depth=3, consumers=0, unacknowledged=0))


async def test_a_queue_that_is_deleted(rabbit: Rabbit, bench: Bench) -> None:
    rabbit.queue("short-lived")
    bench.start(queues=["short-lived"], vhosts=["/"], interval_seconds=0.1)
    await bench.until(shows("short-lived"))
    rabbit.delete("/queues/%2F/short-lived")
    await bench.until(lambda it: "short-lived" not in it.queues)
    assert bench.problems() == {"vhost /": "NotFound"}


async def test_a_user_who_may_see_no_virtual_host(rabbit: Rabbit, bench: Bench) -> None:
    bench.start(vhosts=["closed"], queues=["any"], interval_seconds=0.1)
    await bench.until(lambda it: it.problems().get("vhost closed") == "Forbidden")


async def test_a_wrong_password(rabbit: Rabbit) -> None:
    bench = Bench(rabbit.url, RecordingOutput(Clock()), "observer", "guessed")
    bench.start()
    await bench.until(lambda it: it.problems() == {"": "Unauthorized"})
    await bench.stop()
    assert "guessed" not in repr(bench.output.calls)


async def test_a_memory_alarm(rabbit: Rabbit, bench: Bench) -> None:
    bench.start(interval_seconds=0.1)
    await bench.until(lambda it: "" not in it.problems() and it.output.calls)
    with rabbit.short_of_memory():
        await bench.until(lambda it: it.problems().get("") == "Alarm")
    await bench.until(lambda it: "" not in it.problems())
