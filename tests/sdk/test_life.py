"""The lives of an instance: agents that share one, copies, pickles and children."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from telemetron_agent import Agent


def test_two_agents_of_a_name_are_one_instance(stand_in) -> None:
    with Agent("bot", url=stand_in.url, interval=60, models=["m"], description="first") as first:
        with Agent("bot", url=stand_in.url, interval=60, models=["m", "n"], version="2") as second:
            assert (first.instance, first.boot_id) == (second.instance, second.boot_id)
            with first.task("a"), second.task("b"):
                beat = stand_in.wait_for_beat(lambda beat: beat["task_count"] == 2)
        assert stand_in.goodbyes == []  # the first one goes on
        with first.task("c"):
            stand_in.wait_for_beat(lambda beat: [t["id"] for t in beat["tasks"]] == ["c"])
    assert (beat["models"], beat["description"], beat["version"]) == (["m", "n"], "first", "2")
    assert len(stand_in.goodbyes) == 1
    assert len({beat["boot_id"] for beat in stand_in.beats}) == 1


def test_an_agent_after_one_of_its_name_is_another_life(stand_in) -> None:
    for _ in range(2):
        with Agent("bot", url=stand_in.url, interval=60) as agent:
            assert agent.flush(10)
    methods = [request.method for request in stand_in.requests]
    assert methods.index("DELETE") > 0
    assert methods[-1] == "DELETE"
    boots = list(dict.fromkeys(beat["boot_id"] for beat in stand_in.beats))
    assert len(boots) == 2
    last = [request.beat.get("boot_id") for request in stand_in.requests]
    assert last.index(boots[1]) > methods.index("DELETE")  # else the goodbye would be the second's


def test_an_agent_after_one_that_never_reported_reports_at_once(stand_in) -> None:
    with Agent("bot", url=stand_in.url, interval=60) as agent:
        pickled = pickle.dumps(agent)
    stand_in.wait_for(lambda each: each.method == "DELETE")
    pickle.loads(pickled).close()
    with Agent("bot", url=stand_in.url, interval=60) as agent:
        assert agent.flush(3)


def test_agents_with_different_instance_ids_are_separate(stand_in) -> None:
    url = stand_in.url
    with Agent("bot", url=url, instance="a") as a, Agent("bot", url=url, instance="b") as b:
        assert a.boot_id != b.boot_id
        assert a.flush(10)
        assert b.flush(10)
    assert {beat["instance"] for beat in stand_in.beats} == {"a", "b"}
    assert len(stand_in.goodbyes) == 2


@dataclasses.dataclass
class Holder:
    agent: Agent


def test_a_copy_of_an_agent_is_itself(stand_in) -> None:
    with Agent("bot", url=stand_in.url, token="secret", interval=60) as agent:
        assert copy.copy(agent) is copy.deepcopy(agent) is agent
        assert dataclasses.asdict(Holder(agent)) == {"agent": agent}
        pickled = pickle.dumps(Holder(agent))
        assert b"secret" not in pickled
        assert pickle.loads(pickled).agent is agent
        assert pickle.dumps(agent) == pickle.dumps(agent)


def held(function: Any) -> Iterator[Any]:
    """All that a function made in another one holds, which cloudpickle pickles with it."""
    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, FunctionType):
            yield from held(cell.cell_contents)
        else:
            yield cell.cell_contents


def test_all_that_a_decorated_function_holds_can_be_pickled(stand_in) -> None:
    with Agent("bot", url=stand_in.url, interval=60) as agent:
        for function in (agent.task(len), agent.task("nightly")(len)):
            assert len(list(held(function))) >= 2
            for each in held(function):
                pickle.loads(pickle.dumps(each))


def test_a_closed_agent_stays_closed_in_a_child(stand_in, python) -> None:
    source = """
import os
from telemetron_agent import Agent
agent = Agent("bot", instance="parent", interval=60)
agent.flush(10)
agent.close()
child = os.fork()
with agent.task("unseen"):
    agent.flush(1)
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""
    _, errors = python(source, stand_in.url).communicate(timeout=30)
    assert errors == ""
    assert {beat["instance"] for beat in stand_in.beats} == {"parent"}
    assert stand_in.goodbyes == ["/agents/bot/instances/parent"]


def test_a_pickled_agent_becomes_the_other_processs_agent(stand_in, python) -> None:
    source = """
import pickle, sys
agent = pickle.loads(bytes.fromhex(sys.stdin.readline()))
assert pickle.loads(pickle.dumps(agent)) is agent
with agent.task("elsewhere"):
    agent.flush(10)
print(agent.instance)
"""
    with Agent("bot", url=stand_in.url, instance="mine", models=["m"], interval=60) as agent:
        process = python(source)
        output, errors = process.communicate(pickle.dumps(agent).hex() + "\n", timeout=30)
        assert errors == ""
        told = stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
        assert agent.instance == "mine"
    assert told["instance"] == output.strip() == f"mine-{process.pid}"
    assert told["models"] == ["m"]
    assert f"/agents/bot/instances/mine-{process.pid}" in stand_in.goodbyes
