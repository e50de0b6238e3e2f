"""Incidents that Telemetron sees, or does not see, because of a source."""

from tests.real.incidents.background import QUEUES, roles
from tests.real.incidents.scenario import agent, model, queue, scenario, source
from tests.real.incidents.world import World

MODELS = [("llm", name) for name in sorted({name for one in roles() for name in one.models})]
CALLERS = [one.name for one in roles() if one.models]


@scenario(
    "critical",
    roots=[source("litellm")],
    accepted=[model("anthropic-sonnet")],
    effects=[*map(agent, CALLERS), *[queue(*one) for one in QUEUES.items()]],
)
async def proxy_down(w: World) -> None:
    """The LiteLLM proxy takes connections and answers nothing. Every task waits for a model."""
    w.proxy.hang()
    w.blocked |= {*MODELS}
    w.shows("the source says so", lambda v: v.is_out_of_sight("litellm"))
    w.shows("nine agents wait for models", lambda v: v.agents_waiting() >= 9)


@scenario("warning", roots=[source("kafka")])
async def kafka_out_of_sight(w: World) -> None:
    """Telemetron cannot reach Kafka any more (a network policy); the agents work as ever."""
    w.broker.cut()
    w.shows("the source says so", lambda v: v.is_out_of_sight("kafka"))
    w.shows("nothing is stalled", lambda v: not v.stalled())
    w.shows("the last known queues are shown", lambda v: len(v.state["queues"]) >= 8)


def beat_again(w: World) -> None:
    """The network lets heartbeats through."""
    for instances in w.agents.values():
        for instance in instances:
            instance.beats = True


@scenario(
    "warning",
    roots=[source("heartbeats")],
    effects=[agent(one.name) for one in roles()],
    end=beat_again,
)
async def heartbeats_lost(w: World) -> None:
    """A network policy cuts the agents off from Telemetron; they work as ever."""
    for instances in w.agents.values():
        for instance in instances:
            instance.beats = False
    w.shows("all are silent", lambda v: {one["status"] for one in v.instances()} == {"silent"})
