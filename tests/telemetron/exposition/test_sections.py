from telemetron.document import Cooldowns, Live, Root
from tests.telemetron.answers.brief.made import ago, finding, model, queue, source, workload
from tests.telemetron.exposition.scrape import Scraper, of, scraped

QUEUE = {"queue": "q", "group": "g", "source": "kafka"}
MODEL = {"source": "litellm", "model": "gpt", "deployment": "d"}
WORKLOAD = {"source": "kubernetes", "namespace": "prod", "kind": "Deployment", "workload": "w"}


def test_a_source_has_one_status_of_six():
    found = of(scraped(sources=[source("kafka", "stale")]), "source_status", source="kafka")
    assert found["kafka", "stale"] == 1
    assert sorted(found.values()) == [0, 0, 0, 0, 0, 1]


def test_findings_are_counted_by_rule_and_severity():
    root = Root("workload", "x")
    made = [
        *[finding(rank, root) for rank in (1, 2)],
        finding(3, root, severity="info"),
        finding(4, root, rule="ModelDown", severity="critical"),
    ]
    assert of(scraped(findings=made), "finding") == {
        ("WorkloadCrashing", "critical"): 2,
        ("WorkloadCrashing", "info"): 1,
        ("ModelDown", "critical"): 1,
    }
    assert of(scraped(), "finding") == {}


def test_a_queue():
    made = queue(
        "q",
        source="kafka",
        depth=7,
        lag=9,
        unacknowledged=2,
        consumers=0,
        oldest_submitted_at=ago(90),
        consumed_at=ago(30),
    )
    found = scraped(queues=[made])
    for name, value in {
        "depth": 7,
        "lag": 9,
        "unacknowledged": 2,
        "consumers": 0,
        "oldest_timestamp_seconds": ago(90).timestamp(),
        "consumed_timestamp_seconds": ago(30).timestamp(),
    }.items():
        assert of(found, f"queue_{name}", **QUEUE) == {(): value}, name


def test_numbers_of_a_queue_that_are_unknown_are_absent():
    unknown = queue("q", None, source="kafka", depth=None, consumers=None)
    assert not [key for key in scraped(queues=[unknown]) if key[0].startswith("telemetron_queue")]


def test_a_queue_that_no_group_reads_has_an_empty_group():
    scraper = Scraper()
    scraper.show(queues=[queue("q", None, source="kafka", depth=3)])
    assert 'telemetron_queue_depth{source="kafka",queue="q",group=""} 3\n' in scraper.text()


def test_a_model_deployment():
    made = model(
        "d",
        source="litellm",
        status="cooling_down",
        tpm=10.5,
        tpm_max=100,
        rpm=2.0,
        rpm_max=20,
        cooldown_until=ago(-5),
        cooldowns=Cooldowns(count=4),
    )
    found = scraped(litellm=[made])
    assert of(found, "model_status", **MODEL) == {
        "healthy": 0,
        "unhealthy": 0,
        "cooling_down": 1,
        "unknown": 0,
    }
    for name, value in {
        "tokens_per_minute": 10.5,
        "limit_tokens_per_minute": 100,
        "requests_per_minute": 2,
        "limit_requests_per_minute": 20,
        "cooldown_until_timestamp_seconds": ago(-5).timestamp(),
        "cooldowns_total": 4,
    }.items():
        assert of(found, f"model_{name}", **MODEL) == {(): value}, name
    unknown = scraped(litellm=[model("d", source="litellm", cooldowns=Cooldowns(count=None))])
    assert of(unknown, "model_cooldowns_total", **MODEL) == {}


def test_a_workload_has_one_status_of_its_rollout():
    made = workload("w", source="kubernetes", live=Live(rollout="stuck"))
    assert of(scraped(workload=[made]), "workload_rollout", **WORKLOAD) == {
        "complete": 0,
        "progressing": 0,
        "stuck": 1,
        "paused": 0,
    }


def test_workloads_without_a_rollout_or_a_stable_name_are_absent():
    made = [
        workload("a", live=None),
        workload("b", live=Live(rollout=None)),
        workload("c", kind="Job", live=Live(rollout="complete")),
    ]
    assert of(scraped(workload=made), "workload_rollout") == {}


def kept(section, *entities, max_series):
    scraper = Scraper(max_series=max_series)
    scraper.show(**{section: entities})
    return {
        dict(key[1:]).get("queue") or dict(key[1:]).get("deployment") or dict(key[1:])["workload"]
        for key in scraper.found(section)
        if key[0] != "telemetron_state_series_dropped"
    }


def test_the_worst_are_kept():
    queues = [
        queue("a"),
        queue("b", depth=9),
        queue("c", depth=900),
        queue("d", depth=1, consumers=0),
    ]
    assert kept("queues", *queues, max_series=4) == {"c", "d"}
    models = [model("a"), model("b", status="unhealthy"), model("c", status="unknown")]
    assert kept("litellm", *models, max_series=5) == {"b"}
    workloads = [workload("a"), workload("b", live=Live(rollout="stuck"))]
    assert kept("workload", *workloads, max_series=4) == {"b"}
