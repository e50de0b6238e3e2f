"""Incidents whose root is a model, or the name of one."""

from tests.real.incidents.agents import Instance
from tests.real.incidents.background import QUEUES, llm, work
from tests.real.incidents.scenario import Ref, agent, model, queue, scenario, workload
from tests.real.incidents.world import World

SONNETS = ("anthropic-sonnet", "bedrock-sonnet")
SONNET_AGENTS = ("planner", "writer", "reviewer", "coder", "summarizer", "translator")
UNKNOWN = "claude-sonnet-4-6"
OPENAI = ("openai-embed-large", "openai-gpt5", "openai-gpt5-mini")


@scenario(
    "critical",
    roots=[model("anthropic-sonnet")],
    accepted=[model("bedrock-sonnet")],
    effects=[
        *map(model, SONNETS),
        *map(agent, (*SONNET_AGENTS, "orchestrator")),
        *[queue(*one) for one in QUEUES.items()],
    ],
)
async def model_cooling_down(w: World) -> None:
    """Both deployments of claude-sonnet answer 429 and cool down; six agents wait for it."""
    for id in SONNETS:
        w.deployment(id).is_cooling = True
    w.proxy.refused["claude-sonnet"] = 3
    w.blocked.add(("llm", "claude-sonnet"))
    w.shows(
        "both deployments cool down",
        lambda v: all(v.model(id)["status"] == "cooling_down" for id in SONNETS),
    )
    w.shows("after 429", lambda v: v.model("bedrock-sonnet")["cooldowns"]["status_code"] == 429)
    w.shows("six agents wait for it", lambda v: v.agents_waiting("claude-sonnet") >= 6)


@scenario("info", roots=[model("bedrock-sonnet")])
async def one_deployment_cooling(w: World) -> None:
    """One of two deployments of claude-sonnet cools down; the other takes its calls."""
    w.deployment("bedrock-sonnet").is_cooling = True
    w.deployment("anthropic-sonnet").ok = 1.5
    w.shows("one cools", lambda v: v.model("bedrock-sonnet")["status"] == "cooling_down")
    w.shows("one is healthy", lambda v: v.model("anthropic-sonnet")["status"] == "healthy")
    w.shows("nothing is stalled", lambda v: not v.stalled())


@scenario(
    "critical",
    roots=[agent("summarizer", UNKNOWN)],
    accepted=[agent("summarizer"), workload("summarizer")],
    effects=[agent("summarizer")],
)
async def unknown_model(w: World) -> None:
    """The new summarizer asks for claude-sonnet-4-6, which no deployment has: every task fails.

    After aden-hive/hive#5316 and NousResearch/hermes-agent#40066.
    """
    summarizer, role = w.workload("summarizer"), w.roles["summarizer"]
    summarizer.roll("registry.example/atlas/summarizer:4.18.0")
    for instance in w.instances("summarizer"):
        await instance.leave()
        instance.pod.delete()
    role.phases = [work("read", 1), llm("summarise", UNKNOWN, 3)]
    w.agents[role.name] = [Instance(w, role, summarizer.add_pod()) for _ in range(2)]
    summarizer.sync()
    w.failing["llm", UNKNOWN] = "NotFoundError"
    w.proxy.unknown[UNKNOWN] = 0.6
    w.shows("the agent names it", lambda v: UNKNOWN in v.agent(role.name)["models"])
    w.shows("its tasks fail", lambda v: v.outcomes(role.name, "failed") >= 3)
    w.shows("none completes", lambda v: v.outcomes(role.name, "completed") == 0)
    w.shows(
        "the error is shown",
        lambda v: v.agent(role.name)["activity"]["last_failure"]["error"] == "NotFoundError",
    )


@scenario(
    "critical",
    roots=[Ref("litellm", "litellm/openai-embed-large", "openai")],
    accepted=[*map(model, OPENAI)],
    effects=[
        *map(agent, ("orchestrator", "retriever", "browser", "researcher")),
        *[queue(*one) for one in QUEUES.items()],
    ],
)
async def provider_key_revoked(w: World) -> None:
    """The key of a provider is revoked: two models fail with 401, a third has another provider."""
    for id in OPENAI:
        deployment = w.deployment(id)
        deployment.ok, deployment.fail = 0.0, 1.0
        deployment.error = "Openai.AuthenticationError", "401"
    w.deployment("azure-gpt5-eu").ok = 0.9
    for name in ("gpt-5-mini", "text-embedding-3-large"):
        w.failing["llm", name] = "AuthenticationError"
    w.shows("all fail", lambda v: {v.model(id)["status"] for id in OPENAI} == {"unhealthy"})
    w.shows(
        "retriever fails",
        lambda v: (
            v.agent("retriever")["activity"]["last_failure"]["error"] == "AuthenticationError"
        ),
    )
