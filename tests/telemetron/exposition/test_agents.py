import pytest

from telemetron.document import Activity, Instance, Outcomes, Problem, Task, Wait
from tests.telemetron.answers.brief.made import agent, ago
from tests.telemetron.exposition.scrape import Scraper, of, scraped

ONE = {"namespace": "prod", "agent": "a"}


def shown(made, name):
    return of(scraped(agents=[made]), f"agent_{name}", **ONE)


def instances(*statuses):
    return [Instance(id=f"i-{at}", status=status) for at, status in enumerate(statuses)]


def test_an_idle_agent():
    made = agent(
        "a",
        status="idle",
        deployment_name="d",
        instances=[Instance(id="i", status="idle", outcomes=Outcomes(completed=3, failed=1))],
    )
    found = scraped(agents=[made])
    assert of(found, "agent_info", **ONE) == {"d": 1}
    assert of(found, "agent_status", **ONE) == {"active": 0, "idle": 1, "silent": 0, "declared": 0}
    assert of(found, "agent_instances", **ONE) == {"active": 0, "idle": 1, "silent": 0}
    assert of(found, "agent_tasks", **ONE) == {"running": 0, "waiting": 0}
    assert of(found, "agent_stalled_tasks", **ONE) == {(): 0}
    assert of(found, "agent_waits", **ONE) == {}
    assert of(found, "agent_max_parallel_invocations", **ONE) == {(): 4}
    assert of(found, "agent_least_progress_timestamp_seconds", **ONE) == {}
    assert of(found, "agent_tasks_finished_total", **ONE) == {
        "completed": 3,
        "failed": 1,
        "canceled": 0,
    }


def test_a_busy_agent():
    made = agent(
        "a",
        Task(id="1", status="running", stalled=True, progressed_at=ago(60)),
        Task(
            id="2", status="waiting", stalled=False, waits=[Wait("llm"), Wait("odd")], wait_count=5
        ),
        Task(id="3"),
        Task(id="4", status="running", last_known=True, waits=[Wait("tool")], wait_count=1),
    )
    assert shown(made, "tasks") == {"running": 1, "waiting": 1, "unknown": 1, "last_known": 1}
    assert shown(made, "stalled_tasks") == {(): 1}
    assert shown(made, "waits") == {"llm": 1, "other": 1, "unlisted": 3}


def test_the_time_of_the_least_progress_is_unix_time():
    made = agent("a", activity=Activity(least_progressed_at=ago(60)))
    assert shown(made, "least_progress_timestamp_seconds") == {(): ago(60).timestamp()}


def test_an_agent_without_a_namespace_has_an_empty_one():
    """Prometheus then adds no `namespace` of the target, if it honors the labels."""
    text = Scraper()
    text.show(agents=[agent("a", namespace=None)])
    assert 'telemetron_agent_info{namespace="",agent="a",deployment=""} 1\n' in text.text()


def test_stalled_is_unknown_if_no_task_reports_progress():
    assert shown(agent("a", Task(id="1"), Task(id="2")), "stalled_tasks") == {}
    assert shown(agent("a", Task(id="1"), Task(id="2", stalled=False)), "stalled_tasks") == {(): 0}


def test_cut_lists_keep_their_sum():
    made = agent(
        "a",
        instances=instances("active", "active", "silent"),
        instance_count=900,
        silent_count=300,
        activity=Activity(active_task_ids=[Task(id="1", status="running")], task_count=500),
    )
    assert shown(made, "instances") == {"active": 2, "idle": 0, "silent": 300, "unlisted": 598}
    assert shown(made, "tasks") == {"running": 1, "waiting": 0, "unlisted": 499}


def test_instances_that_cannot_be_counted_are_absent():
    made = agent(
        "a", instances=instances("declared", "silent"), instance_count=None, silent_count=1
    )
    assert shown(made, "instances") == {"silent": 1}


@pytest.mark.parametrize(
    "worse",
    [
        agent("z", status="silent"),
        agent("z", Task(id="1", stalled=True)),
        agent("z", problems=[Problem("Odd", "it is odd", ago(5))]),
    ],
)
def test_the_worse_agent_is_kept(worse):
    scraper = Scraper(max_series=14)
    scraper.show(agents=[agent("a"), worse])
    assert set(of(scraper.found("agents"), "agent_info", namespace="prod")) == {("z", "")}
