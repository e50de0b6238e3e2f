"""The readers of a queue: agents that declare it, and workloads whose pods are in its group."""

import msgspec

from telemetron.diagnosis.rules.queues.readers import capacity, of_members, of_readers
from telemetron.document import Member
from tests.telemetron.diagnosis.system import System

WRITER = "kubernetes/prod/Deployment/writer"


async def test_agents_that_declare_the_queue_and_their_workloads() -> None:
    async with System() as system:
        system.agent("writer", workload=WRITER, queues=["q"])
        system.agent("other", queues=["other"])
        await system.settle()
        readers = system.view().find("agents by queue", "q")
        assert of_readers(readers) == [("agent", "prod/writer"), ("workload", WRITER)]
        assert {("pods", WRITER), ("load", "prod/writer")} <= {*capacity(readers)}


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
