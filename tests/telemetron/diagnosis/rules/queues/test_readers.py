"""The readers of a queue: agents that declare it, and workloads whose pods are in its group."""

import msgspec
import pytest

from telemetron.diagnosis.rules.queues.readers import (
    capacity,
    is_idle,
    is_starting,
    of_members,
    of_readers,
    queues_named,
    readers_of,
)
from telemetron.document import Member
from tests.telemetron.diagnosis.system import System

WRITER = "kubernetes/prod/Deployment/writer"
CLUSTERS = ("kubernetes", "kafka"), ("east", "kafka-east")


async def test_agents_that_declare_the_queue_and_their_workloads() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-0"))
        system.queue("q")
        system.agent("writer", workload=WRITER, queues=["q"])
        system.agent("other", queues=["other"])
        await system.settle()
        view = system.view()
        readers = readers_of(view.get("queues", "kafka/q/g"), view)
        assert of_readers(readers, view) == [("agent", "prod/writer"), ("workload", WRITER)]
        assert {("pods", WRITER), ("load", "prod/writer")} <= {*capacity(readers, view)}


async def test_members_are_joined_by_the_addresses_of_their_pods() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-0", ip="10.0.0.1"))
        members = [Member(client_id=host, host=host) for host in ("10.0.0.1", "10.0.0.2")]
        system.queue("q", members=members)
        await system.settle()
        (queue,) = system.state.queues
        view = system.view()
        assert of_members(queue, view) == [("workload", WRITER)]
        without = msgspec.structs.replace(queue, members=[])
        assert of_members(without, view) == [("workload", WRITER)]  # as it was last


async def test_a_queue_of_several_clusters_is_that_which_the_agents_pods_read() -> None:
    async with System() as system:
        for at, (cluster, broker) in enumerate(CLUSTERS):
            address = f"10.0.0.{at}"
            key = system.workload("writer", system.pod("w-0", ip=address), source=cluster)
            system.workload("boss", system.pod("b-0"), source=cluster)
            system.queue("q", members=[Member(client_id="c", host=address)], source=broker)
            system.agent(f"writer-{cluster}", workload=key, queues=["q"])
            boss = key.replace("writer", "boss")
            system.agent(f"boss-{cluster}", workload=boss)
        system.agent("stranger")
        await system.settle()
        view = system.view()
        for cluster, broker in CLUSTERS:
            queue = view.get("queues", f"{broker}/q/g")
            assert [one.name for one in readers_of(queue, view)] == [f"writer-{cluster}"]
            boss = view.get("agents", f"prod/boss-{cluster}")
            assert queues_named("q", boss, view) == [queue]
        assert queues_named("q", view.get("agents", "prod/stranger"), view) == []


async def test_pods_of_two_clusters_with_one_address_are_told_apart_by_what_they_declare() -> None:
    async with System() as system:
        for cluster, _ in CLUSTERS:
            system.workload("writer", system.pod("w-0", ip="10.0.0.1"), source=cluster)
        system.queue("q", members=[Member(client_id="c", host="10.0.0.1")])
        await system.settle()
        view = system.view()
        assert of_members(view.get("queues", "kafka/q/g"), view) == []
        system.agent("writer", workload=WRITER, queues=["q"])
        await system.settle()
        view = system.view()
        assert of_members(view.get("queues", "kafka/q/g"), view) == [("workload", WRITER)]


async def test_a_queue_is_idle_if_its_readers_are() -> None:
    async with System() as system:
        system.queue("q")
        system.agent("reader", queues=["q"])
        await system.settle()
        view = system.view()
        assert is_idle(view.get("queues", "kafka/q/g"), view)
        system.agent("reader", system.task("t"), queues=["q"])
        await system.settle()
        view = system.view()
        assert not is_idle(view.get("queues", "kafka/q/g"), view)


@pytest.mark.parametrize(
    ("age", "reason", "starts"),
    [
        (10, "ContainerCreating", True),
        (70, "ContainerCreating", False),
        (10, "ImagePullBackOff", False),
    ],
)
async def test_a_workload_starts_while_a_pod_of_it_is_new(
    age: int, reason: str, starts: bool
) -> None:
    async with System() as system:
        made = {"status": "Pending", "reason": reason, "created_at": system.ago(age)}
        key = system.workload("w", system.pod("w-0", ready=False, **made))
        await system.settle()
        assert is_starting([("workload", key)], system.view()) == starts
