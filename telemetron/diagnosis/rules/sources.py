"""The observer's own blindness: sources that see nothing, or not all."""

from collections.abc import Iterator
from math import inf

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.agents.instances import unheard
from telemetron.diagnosis.rules.homes import home_of, pod_of
from telemetron.diagnosis.view import View, spread
from telemetron.document import SourceProblem, SourceRow

FORBIDDEN = ("Forbidden", "Unauthorized")
MAX_ASKED = 200
"""Silent instances whose pods are looked at: of more than these, so many, evenly spread."""
OPTIONAL = ("metrics", "nodes", "autoscalers")
"""Scopes without which little is missing."""


def stale(source: SourceRow, _: View) -> Iterator[Symptom]:
    """No scope was confirmed in time; the document shows last known values."""
    if source.status == "stale" and source.collector != "litellm":
        yield _blind("SourceStale", source, f"Source {source.key} is stale{_why(source)}")


def proxy(source: SourceRow, view: View) -> Iterator[Symptom]:
    """A LiteLLM proxy does not answer; it is critical if agents wait for models, too."""
    if source.status == "stale" and source.collector == "litellm":
        waits = [term for term in view.terms("agents by stalled wait") if isinstance(term, tuple)]
        is_missed = any(kind == "llm" for kind, _ in waits)
        is_refused = any(one.reason in FORBIDDEN for one in source.problems)
        yield _blind(
            "ProxyFailing", source, f"LiteLLM proxy {source.key} fails{_why(source)}"
        )._replace(severity=None if is_missed and not is_refused else "warning")


def heartbeats(source: SourceRow, view: View) -> Iterator[Symptom]:
    """No agent sends heartbeats any more, though their pods are ready."""
    if source.collector != "heartbeats" or source.status not in ("ok", "degraded"):
        return
    count = view.fact(unheard, source.key)
    if not count:
        return
    agents = view.sample("agents by beat", (source.key, "silent"), MAX_ASKED)
    silent = [(each, one) for each in agents for one in each.instances if one.status == "silent"]
    asked = spread(silent, MAX_ASKED)
    pods = [pod_of(home_of(each, one, view), one) for each, one in asked]
    ready = sum(bool(pod and pod.ready) for pod in pods)
    if 2 * ready > len(asked):
        is_whole = count == len(agents) and len(silent) == len(asked)
        yield Symptom(
            "HeartbeatsLost",
            "sources",
            source.key,
            f"No heartbeat comes any more: {len(silent)} instances of {count} agents are silent,"
            f" and the pods of {ready} are ready"
            if is_whole
            else f"No heartbeat comes any more: {count} agents are silent, and of {len(asked)} of"
            f" their instances, the pods of {ready} are ready",
            [Place("sources", source.key, "status")]
            + [Place("agents", agent.key, "silent_count") for agent in agents[:3]],
            since=max((one.silent_since for _, one in silent if one.silent_since), default=None),
            provides=[("source", source.key)],
            basis="contradiction",
        )


def failing(source: SourceRow, _: View) -> Iterator[Symptom]:
    """Its collector does not run."""
    if source.status == "failing":
        yield _blind("SourceFailing", source, f"Source {source.key} does not run{_why(source)}")


def forbidden(source: SourceRow, _: View) -> Iterator[Symptom]:
    """It lacks a permission for a part of its section."""
    if source.status in ("stale", "failing"):
        return
    found = {at: one for at, one in enumerate(source.problems) if one.reason in FORBIDDEN}
    needed = {at: one for at, one in found.items() if not _is_optional(one)}
    if denied := list((needed or found).values()):
        names = ", ".join(one.scope or "all of it" for one in denied[:4])
        yield Symptom(
            "SourceForbidden",
            "sources",
            source.key,
            f"Source {source.key} may not look at {names}: {denied[0].message}",
            [Place("sources", source.key, item("problems", str(at), "reason")) for at in found],
            since=min(one.since for one in denied),
            severity=None if needed else "info",
        )


def _is_optional(problem: SourceProblem) -> bool:
    return any(word in problem.scope for word in OPTIONAL)


def _blind(rule: str, source: SourceRow, summary: str) -> Symptom:
    evidence = [Place("sources", source.key, "status")]
    evidence += [
        Place("sources", source.key, f"problems/{at}/{field}")
        for at in range(min(2, len(source.problems)))
        for field in ("reason", "message")
    ]
    return Symptom(
        rule,
        "sources",
        source.key,
        summary,
        evidence,
        since=source.last_ok_at,
        window_seconds=0.0 if source.last_ok_at else inf,  # it may have begun at any time
        provides=[("source", source.key)],
    )


def _why(source: SourceRow) -> str:
    for problem in source.problems:
        return f": {problem.message}"
    return ""


RULES = (
    Rule(
        "SourceStale",
        "sources",
        "warning",
        0,
        5,
        "`sources[].status` is `stale`",
        "Telemetron could not observe the source within its `max_age_seconds`. The document"
        " shows its last known values, and nothing is concluded from them.",
        "Read the source's `problems` (`/system/state?sections=sources`); check the network and "
        "the permissions between Telemetron and the source's `address`.",
        stale,
    ),
    Rule(
        "ProxyFailing",
        "sources",
        "critical",
        0,
        5,
        "`sources[].status` of a `litellm` source is `stale`",
        "The LiteLLM proxy does not answer. Tasks that wait for its models are effects; without any"
        " it is a warning, as perhaps only Telemetron cannot reach it.",
        "Request `/health/liveliness` of the proxy from an agent's pod; check the proxy's "
        "process, its database and the network to it.",
        proxy,
    ),
    Rule(
        "HeartbeatsLost",
        "sources",
        "warning",
        8,
        5,
        "`silent_count` of all agents, and `pods[].ready`",
        "All agents fell silent, while most of their pods are ready: heartbeats do not reach"
        " Telemetron. What agents do is not known meanwhile.",
        "Check the network between the agents and Telemetron: its service, policies and address.",
        heartbeats,
        asks=("workload",),
    ),
    Rule(
        "SourceFailing",
        "sources",
        "warning",
        5,
        5,
        "`sources[].status` is `failing`",
        "The source's collector does not run: its configuration is wrong, it cannot be imported, or"
        " it crashed.",
        "Read the source's `problems` and Telemetron's log; run `telemetron validate` with the "
        "same configuration.",
        failing,
    ),
    Rule(
        "SourceForbidden",
        "sources",
        "warning",
        30,
        30,
        "`sources[].problems` with the reason `Forbidden` or `Unauthorized`",
        "Telemetron lacks a permission that the source's configuration needs; the fields that"
        " depend on it are null.",
        "Grant the permission that the message names (`kubectl auth can-i` shows those of "
        "Kubernetes), or remove that part from the configuration.",
        forbidden,
    ),
)
