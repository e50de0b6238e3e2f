"""The healthy system in which incidents happen: Atlas, which answers research requests.

12 agents (23 instances), 26 pods, 8 queues, 8 deployments of 6 models.
"""

from tests.real.incidents.agents import Phase, Role
from tests.real.incidents.proxy import Deployment


def llm(step: str, model: str, seconds: int) -> Phase:
    """A call of a model."""
    return Phase(step, "llm", model, seconds)


def tool(step: str, name: str, seconds: int) -> Phase:
    """A call of a tool."""
    return Phase(step, "tool", name, seconds)


def work(step: str, seconds: int) -> Phase:
    """Work that waits for nothing."""
    return Phase(step, seconds=seconds)


ORCHESTRATOR = [
    llm("classify", "gpt-5-mini", 2),
    Phase("delegate", "agent", "planner", 4),
    llm("answer", "gpt-5", 2),
]
PLANNER = [
    llm("outline", "claude-opus", 3),
    Phase("await sections", "queue", "sections", 4),
    llm("merge", "claude-sonnet", 2),
]
RESEARCHER = [tool("search", "web-search", 2), work("read", 2), llm("rank", "gpt-5", 3)]
BROWSER = [tool("open page", "chromium", 3), llm("extract", "gpt-5-mini", 2)]
RETRIEVER = [
    llm("embed", "text-embedding-3-large", 1),
    tool("search", "qdrant", 1),
    llm("rerank", "gpt-5-mini", 2),
]
WRITER = [llm("draft", "claude-sonnet", 4), work("cite", 1), llm("polish", "claude-sonnet", 3)]
REVIEWER = [work("read", 2), llm("judge", "claude-sonnet", 3)]
CODER = [
    llm("plan change", "claude-sonnet", 3),
    tool("edit", "workspace", 2),
    Phase("await tests", "agent", "tester", 3),
]
TESTER = [tool("build", "sandbox", 3), tool("run", "sandbox", 3)]
SUMMARIZER = [work("read", 1), llm("summarise", "claude-sonnet", 3)]
TRANSLATOR = [llm("translate", "claude-sonnet", 3)]
NOTIFIER = [work("render", 1), tool("send", "smtp", 1)]


def roles() -> list[Role]:
    """Return the agents: replicas, parallel tasks, phases; queue and partitions; prefix, parent."""
    return [
        Role("orchestrator", 2, 4, [*ORCHESTRATOR], "requests", 2, "req", None),
        Role("planner", 2, 3, [*PLANNER], "plans", 2, "plan", "orchestrator"),
        Role("researcher", 3, 2, [*RESEARCHER], "research", 3, "res", "planner"),
        Role("browser", 2, 2, [*BROWSER], "browse", 2, "page", "researcher"),
        Role("retriever", 2, 4, [*RETRIEVER], "retrieve", 4, "ret", "researcher"),
        Role("writer", 3, 1, [*WRITER], "sections", 3, "sec", "planner"),
        Role("reviewer", 2, 2, [*REVIEWER], "reviews", 2, "rev", "writer"),
        Role("coder", 2, 1, [*CODER], "code", 2, "code", "planner"),
        Role("tester", 1, 2, [*TESTER], None, 0, "test", "coder"),
        Role("summarizer", 2, 2, [*SUMMARIZER], None, 0, "sum", "orchestrator"),
        Role("translator", 1, 2, [*TRANSLATOR], None, 0, "tr", "orchestrator"),
        Role("notifier", 1, 4, [*NOTIFIER], None, 0, "msg", "orchestrator"),
    ]


QUEUES = {one.queue: one.name for one in roles() if one.queue}
"""The agent that reads each queue; its group has the same name."""
SONNET, OPUS = "anthropic/claude-sonnet-4-5", "anthropic/claude-opus-4-5"
BEDROCK = "bedrock/anthropic.claude-sonnet-4-5-v1:0"
EMBEDDING = "text-embedding-3-large"


def deployments() -> list[Deployment]:
    """Return the deployments behind the proxy."""
    return [
        Deployment("anthropic-opus", "claude-opus", OPUS, 0.3, rpm=120, tpm=400_000),
        Deployment("anthropic-sonnet", "claude-sonnet", SONNET, 0.8, rpm=240, tpm=800_000),
        Deployment("bedrock-sonnet", "claude-sonnet", BEDROCK, 0.7, rpm=200, tpm=600_000),
        Deployment("azure-gpt5-eu", "gpt-5", "azure/gpt-5-eu", 0.4, rpm=180, tpm=500_000),
        Deployment("openai-gpt5", "gpt-5", "openai/gpt-5", 0.4, rpm=300, tpm=900_000),
        Deployment("openai-gpt5-mini", "gpt-5-mini", "openai/gpt-5-mini", 1.2, latency=0.7),
        Deployment("openai-embed-large", EMBEDDING, f"openai/{EMBEDDING}", 1.5, mode="embedding"),
        Deployment("gemini-flash", "gemini-flash", "gemini/gemini-2.5-flash", 0.1, rpm=60),
    ]
