"""`telemetron state`: the tables for a terminal, and the command."""

import json
import re
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from io import StringIO
from typing import Any

import httpx
import pytest
from rich.console import Console

from telemetron.cli import state as tables
from telemetron.collector import ENTRY_POINTS
from telemetron.document import (
    Activity,
    Agent,
    Failure,
    Finding,
    Instance,
    LastExit,
    Live,
    ModelDeployment,
    ModelError,
    Pod,
    Problem,
    Queue,
    Root,
    SourceProblem,
    SourceRow,
    State,
    Task,
    Wait,
    Workload,
)
from tests.telemetron.cli.program import (
    SECONDS,
    answering,
    beat,
    failing_on_terminal,
    invoke,
    on_terminal,
    refused,
)

NOW = datetime(2025, 1, 2, 12, 0, 0, tzinfo=UTC)


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def a_source(key: str, status: str, **fields: Any) -> SourceRow:
    given = {"collector": key, "since": ago(minutes=5), "max_age_seconds": 10.0, "last_ok_at": None}
    given |= {"entities": 0, "problems": []} | fields
    return SourceRow(key=key, status=status, **given)


def an_agent(name: str, **fields: Any) -> Agent:
    given = {"key": f"-/{name}", "namespace": None, "description": None, "status": "idle"}
    given |= {"max_parallel_invocations": 1, "deployment_name": None, "models": [], "queues": []}
    given |= {
        "activity": Activity(),
        "instances": [],
        "instance_count": 1,
        "silent_count": 0,
        "sources": [],
    }
    return Agent(name=name, **given | fields)


def a_state(**sections: Any) -> State:
    given = {"id": "prod", "schema_version": 1, "epoch": "e", "revision": 7, "sources": []}
    return State(**given, started_at=ago(hours=3), changed_at=ago(seconds=4), **sections)


def shown(state: State, width: int = 240) -> list[list[str]]:
    """Return the cells of each line, without colours."""
    out = StringIO()
    tables.write(state, NOW, Console(file=out, width=width, highlight=False))
    return [[cell for cell in line.split("  ") if cell.strip()] for line in _lines(out)]


def _lines(out: StringIO) -> list[str]:
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def row(lines: list[list[str]], first: str) -> list[str]:
    (found,) = [line for line in lines if line[0].strip() == first]
    return [cell.strip() for cell in found]


def test_an_empty_system() -> None:
    lines = shown(a_state(agents=[], litellm=[], queues=[], workload=[]))
    assert lines[0] == ["prod", "revision 7, changed 4s ago, up 3h"]
    assert [line for line in lines[1:] if line[1:] != ["none"]] == []
    assert [line[0] for line in lines[1:]] == [
        "SOURCES",
        "AGENTS",
        "TASKS",
        "QUEUES",
        "WORKLOAD",
        "LITELLM",
    ]


def test_absent_sections_have_no_table() -> None:
    titles = [line[0] for line in shown(a_state(queues=[]))]
    assert titles[1:] == ["SOURCES", "QUEUES"]


def test_the_sections_of_the_built_in_collectors_are_those_of_their_records() -> None:
    records = (point.load() for point in entry_points(group=ENTRY_POINTS))
    assert {record.name: record.sections for record in records} == tables.FEEDS


@pytest.mark.parametrize(
    ("sources", "none"),
    [
        ([("heartbeats", "ok"), ("kubernetes", "off")], "none"),
        ([("heartbeats", "starting"), ("kubernetes", "off")], "none (heartbeats is starting)"),
        ([("heartbeats", "off"), ("kafka", "ok")], "none (heartbeats is off)"),
        ([("heartbeats", "degraded")], "none (heartbeats is degraded)"),
    ],
)
def test_an_empty_section_names_the_sources_that_are_not_ok(
    sources: list[tuple[str, str]], none: str
) -> None:
    state = a_state(agents=[])
    state.sources.extend(a_source(key, status) for key, status in sources)
    assert row(shown(state), "AGENTS") == ["AGENTS", none]


def test_sources_and_their_problems() -> None:
    state = a_state()
    problem = SourceProblem("broker 1", "Unreachable", "no answer", ago(minutes=2))
    state.sources.extend(
        [
            a_source("kafka", "stale", problems=[problem], last_ok_at=ago(minutes=3), entities=4),
            a_source("heartbeats", "ok"),
            a_source("litellm", "starting"),
            a_source("kubernetes", "off", max_age_seconds=None),
        ]
    )
    lines = shown(state)
    assert row(lines, "kafka") == ["kafka", "kafka", "stale", "5m", "4", "3m"]
    assert row(lines, "heartbeats") == ["heartbeats", "heartbeats", "ok", "5m", "0", "–"]
    assert row(lines, "litellm")[-1] == "never"
    assert row(lines, "kubernetes") == ["kubernetes", "kubernetes", "off", "–", "0", "–"]
    assert row(lines, "kafka broker 1") == ["kafka broker 1", "Unreachable", "no answer", "2m"]


def a_finding(rule: str, rank: int, severity: str, **fields: Any) -> Finding:
    given = {"basis": "observed", "root": Root("queues", "kafka/q/g"), "summary": f"{rule} of q"}
    given |= {"since": ago(minutes=3), "raised_at": ago(minutes=2), "observed_at": "e.7"}
    given |= {"runbook": "docs/findings.md", "effect_count": 4} | fields
    return Finding(key=rule, rule=rule, rank=rank, severity=severity, **given)


def test_findings_come_first_by_rank() -> None:
    found = [a_finding("QueueStuck", 2, "warning"), a_finding("NoConsumers", 1, "critical")]
    lines = shown(a_state(findings=found, queues=[]))
    assert [line[0] for line in lines[1:]][::4] == ["FINDINGS", "SOURCES"]
    assert [[cell.strip() for cell in line] for line in lines[3:5]] == [
        ["critical", "NoConsumers", "NoConsumers of q", "3m", "kafka/q/g", "4"],
        ["warning", "QueueStuck", "QueueStuck of q", "3m", "kafka/q/g", "4"],
    ]


def test_no_findings_names_the_sources_that_are_not_seen() -> None:
    state = a_state(findings=[])
    state.sources.extend([a_source("findings", "ok"), a_source("kafka", "stale")])
    assert row(shown(state), "FINDINGS") == ["FINDINGS", "none (kafka is stale)"]


def test_agents_that_work_hang_or_are_gone_look_different() -> None:
    waits = [Wait(kind="llm", name="gpt", since=ago(seconds=30)), Wait(kind="human")]
    busy = Task(id="t1", status="running", progressed_at=ago(seconds=2), step="reads")
    hung = Task(
        id="t2",
        status="waiting",
        started_on=ago(hours=2),
        progressed_at=ago(minutes=10),
        stalled=True,
        waits=waits,
    )
    lost = Task(id="t3", last_known=True)
    failure = Failure(task_id="t0", error="KeyError", at=ago(minutes=2))
    gone = Instance(id="i", status="silent", silent_since=ago(minutes=4))
    lines = shown(
        a_state(
            agents=[
                an_agent(
                    "busy",
                    namespace="prod",
                    status="active",
                    max_parallel_invocations=4,
                    activity=Activity(
                        active_task_ids=[busy, hung],
                        task_count=2,
                        least_progressed_at=ago(minutes=10),
                        last_failure=failure,
                    ),
                ),
                an_agent(
                    "gone",
                    status="silent",
                    activity=Activity(active_task_ids=[lost], task_count=1),
                    instances=[gone],
                ),
                an_agent("idle"),
                an_agent("unseen", status="declared", instance_count=None),
            ]
        )
    )
    assert row(lines, "prod/busy") == ["prod/busy", "active", "2/4", "10m", "1", "KeyError, 2m"]
    assert row(lines, "gone") == ["gone", "silent", "1/1", "?", "1 (1 silent 4m)", "–"]
    assert row(lines, "idle") == ["idle", "idle", "0/1", "–", "1", "–"]
    assert row(lines, "unseen") == ["unseen", "declared", "0/1", "–", "?", "–"]
    assert row(lines, "t1") == ["t1", "prod/busy", "running", "?", "2s", "–", "reads"]
    assert row(lines, "t2") == [
        "t2",
        "prod/busy",
        "waiting stalled",
        "2h",
        "10m",
        "llm gpt 30s, human ?",
        "–",
    ]
    assert row(lines, "t3") == ["t3", "gone", "? (last known)", "?", "?", "–", "–"]


def test_queues_show_bounds_and_unknown_values() -> None:
    lines = shown(
        a_state(
            queues=[
                Queue(
                    name="q1", consumer_group="g", consumers=0, depth=5, depth_exact=False, lag=9
                ),
                Queue(name="q2", depth=0, depth_exact=True, consumed_at=ago(seconds=3)),
                Queue(name="q3", depth=3, depth_exact=True, oldest_submitted_at=ago(minutes=9)),
                Queue(name="q4"),
            ]
        )
    )
    assert row(lines, "q1") == ["q1", "g", "0", "≤ 5", "9", "?", "?"]
    assert row(lines, "q2") == ["q2", "–", "?", "0", "?", "–", "3s"]
    assert row(lines, "q3") == ["q3", "–", "?", "3", "?", "9m", "?"]
    assert row(lines, "q4") == ["q4", "–", "?", "?", "?", "?", "?"]


def test_workload_shows_the_reasons_of_trouble() -> None:
    bad = Pod(
        pod_id="a",
        status="Running",
        reason="CrashLoopBackOff",
        restarts=3,
        last_exit=LastExit(reason="OOMKilled"),
    )
    live = Live(desired=2, ready=1, rollout="progressing", reason="ReplicaSetUpdated")
    well = Live(desired=1, ready=1, rollout="complete", reason="NewReplicaSetAvailable")
    short = Live(desired=2, ready=1, rollout="complete", reason="FailedCreate")
    lines = shown(
        a_state(
            workload=[
                Workload(
                    deployment_name="d", namespace="n", kind="Deployment", live=live, pods=[bad]
                ),
                Workload(deployment_name="w", namespace="n", kind="Deployment", live=well),
                Workload(deployment_name="s", namespace="n", kind="Deployment", live=short),
                Workload(
                    deployment_name="x",
                    namespace="n",
                    kind="Job",
                    pods=[Pod(pod_id="b", status="Unknown")],
                ),
            ]
        )
    )
    why = "CrashLoopBackOff, ReplicaSetUpdated"
    assert row(lines, "n/d") == ["n/d", "Deployment", "1/2", "progressing", "3", why]
    assert row(lines, "n/w") == ["n/w", "Deployment", "1/1", "complete", "0", "–"]
    assert row(lines, "n/s") == ["n/s", "Deployment", "1/2", "complete", "0", "FailedCreate"]
    assert row(lines, "n/x") == ["n/x", "Job", "?", "?", "?", "–"]


def test_models_and_the_problems_of_entities() -> None:
    problem = Problem("BadAnswer", "no price", ago(days=3))
    lines = shown(
        a_state(
            litellm=[
                ModelDeployment(
                    key="litellm/1",
                    id="1",
                    model="gpt",
                    status="healthy",
                    tpm=1234567.0,
                    rpm=0.25,
                    last_error=ModelError(error_class="RateLimit", at=ago(minutes=2)),
                    problems=[problem],
                ),
                ModelDeployment(id="2", model="m"),
            ]
        )
    )
    assert row(lines, "gpt") == [
        "gpt",
        "?",
        "healthy",
        "?",
        "1234567",
        "0.25",
        "?",
        "RateLimit, 2m",
    ]
    assert row(lines, "m") == ["m", "?", "unknown", "?", "?", "?", "?", "–"]
    assert row(lines, "litellm/1") == ["litellm/1", "BadAnswer", "no price", "3d"]


def test_untrusted_text_is_escaped() -> None:
    evil = "\x1b]0;owned\x07[red]x[/red]\n:smile: https://x"
    task = Task(id=evil, step="\x9b2J" + "y" * 5_000, waits=[Wait(kind="llm", name="\u202e")])
    activity = Activity(active_task_ids=[task], task_count=1)
    state = a_state(agents=[an_agent(evil, status=evil, activity=activity)])
    out = StringIO()
    console = Console(file=out, width=400, force_terminal=True, highlight=False)
    tables.write(state, NOW, console)
    text = out.getvalue()
    assert r"\x1b]0;owned\x07[red]x[/red]\n:smile: https://x" in text
    assert r"llm \u202e" in text
    assert not {"\x07", "\x9b", "\u202e"} & set(text)
    assert "\x1b]" not in text
    assert "y" * 100 in text
    assert "y" * (tables.MAX_CELL + 1) not in text


def test_only_the_status_is_coloured() -> None:
    out = StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system="standard")
    tables.write(a_state(agents=[an_agent("failing", status="silent")]), NOW, console)
    (line,) = [line for line in out.getvalue().splitlines() if "silent" in line]
    assert "\x1b[31msilent" in line
    assert line.startswith("failing ")


def test_a_long_table_shows_how_many_rows_are_left_out() -> None:
    agents = [an_agent(f"a{number}") for number in range(tables.MAX_ROWS + 5)]
    lines = shown(a_state(agents=agents))
    assert ["… 5 more in the JSON"] in lines
    assert sum(line[0].strip().startswith("a") for line in lines) == tables.MAX_ROWS + 1


def test_a_narrow_terminal_shows_all_text() -> None:
    name = "a-name-that-is-longer-than-the-terminal-is-wide"
    out = StringIO()
    console = Console(file=out, width=30, highlight=False)
    tables.write(a_state(queues=[Queue(name=name, depth=3)]), NOW, console)
    assert max(map(len, out.getvalue().splitlines())) <= 30
    assert "…" not in out.getvalue()


# the command


def test_in_a_pipe_the_json_is_unchanged(server: str) -> None:
    served = httpx.get(f"{server}/system/state", timeout=SECONDS).text
    done = invoke("state", "--url", server + "/")
    assert (done.stderr, done.exit_code) == ("", 0)
    assert done.stdout == served
    assert invoke("state", TELEMETRON_URL=server, HTTP_PROXY="http://127.0.0.1:1").stdout == served


def test_only_the_given_sections_are_shown(server: str) -> None:
    done = invoke("state", "--url", server, "--section", "agents", "--section", "queues")
    assert {"agents", "queues"} <= {*json.loads(done.stdout)}
    assert not {"workload", "litellm"} & {*json.loads(done.stdout)}
    done = invoke("state", "--url", server, "--section", "agent")
    assert refused(done, 1).startswith(f"{server}: 400 ")
    assert "agents" in done.stderr


def test_a_terminal_shows_tables(server: str) -> None:
    beat(server, "seen", tasks=[{"id": "t1", "status": "running", "step": "\x1b[31mreads"}])
    shown = on_terminal("state", "--url", server)
    assert "telemetron  revision " in shown
    assert "SOURCES" in shown
    assert "heartbeats" in shown
    (agent,) = [line for line in shown.splitlines() if line.startswith("cli/seen")]
    assert "active" in agent
    (task,) = [line for line in shown.splitlines() if line.startswith("t1")]
    assert "reads" in task
    assert "\x1b[31mreads" not in shown


def test_the_past_in_a_pipe(server: str) -> None:
    before = json.loads(invoke("state", "--url", server).stdout)
    place = f"{before['epoch']}.{before['revision']}"
    beat(server, "later")
    past = json.loads(invoke("state", "--url", server, "--at", place).stdout)
    assert past["revision"] == before["revision"]
    assert [agent["key"] for agent in past["agents"]] == [
        agent["key"] for agent in before["agents"]
    ]
    assert "410" in refused(invoke("state", "--url", server, "--at", "ab.1"), 1)


def test_the_past_on_a_terminal(server: str) -> None:
    beat(server, "past", tasks=[{"id": "t-past"}])
    place = beat(server, "past", tasks=[])
    shown = on_terminal("state", "--url", server, "--at", place)
    assert re.search(
        f"telemetron  revision {place.partition('.')[2]}, changed 0s ago, up .*", shown
    )
    at = json.loads(invoke("state", "--url", server, "--at", place).stdout)["changed_at"]
    assert f", as it was at {at[:19]}Z" in shown
    assert any(line.startswith("t-past") for line in shown.splitlines())
    assert "t-past" not in on_terminal("state", "--url", server)


@pytest.mark.parametrize("unit", ["h", "d"])
def test_ages_of_the_past_are_relative_to_its_time(unit: str) -> None:
    """The state of that time had last changed long before."""
    state = {"id": "x", "schema_version": 1, "epoch": "ab", "revision": 1, "sources": []}
    state |= dict.fromkeys(("started_at", "changed_at"), "2020-01-01T00:00:00Z")
    with answering(200, json.dumps(state).encode(), **{"Content-Type": "application/json"}) as url:
        shown = on_terminal("state", "--url", url, "--at", f"2{unit}")
    assert "as it was at 20" in shown
    assert "as it was at 2020" not in shown


def test_an_unexpected_document_is_an_error() -> None:
    with answering(200, b'{"agents": []}', **{"Content-Type": "application/json"}) as url:
        error = failing_on_terminal("state", "--url", url)
    assert "unexpected response; is the server a newer version" in error
    assert len(error.splitlines()) == 1
