"""What the collector does when the proxy fails: the known stays, stale is said, it recovers."""

import asyncio
import json
import os
import time

import pytest
from msgspec import structs

from telemetron.config.settings import ConfigError, configure, parse
from telemetron.secret import Secret
from telemetron.service.supervisor import BoundOutput, Mounts
from telemetron.store.store import Store
from telemetron_collectors.litellm import LitellmConfig, collector
from telemetron_collectors.litellm import client as limits
from tests.collectors.litellm.scripted import (
    HTML,
    KEY,
    METRICS,
    NO_DATABASE,
    PLAIN_500,
    Bench,
    Reply,
    model,
)
from tests.ports import free_port

EVERYTHING = "/model/info", "/metrics/", "/router/settings", "/provider/budgets", "/v1/models"


def trouble(bench: Bench) -> list[tuple[str, str]]:
    """Scopes and reasons of the troubles so far."""
    return [call[1:3] for call in bench.output.calls if call[0] == "trouble"]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the collector logged."""
    return [
        one.getMessage() for one in caplog.records if one.name.startswith("telemetron_collectors")
    ]


async def most_worked(end: asyncio.Event) -> float:
    """Processor time of the loop's thread between two turns of this task, the most."""
    longest, worked = 0.0, time.thread_time()
    while not end.is_set():
        await asyncio.sleep(0)
        worked, before = time.thread_time(), worked
        longest = max(longest, worked - before)
    return longest


async def recovers(bench: Bench, within: float = 30.0) -> None:
    """Everything is confirmed again, within so many seconds of the collector's clock."""
    end = bench.clock.monotonic() + within
    while set(bench.state().values()) != {None} and bench.clock.monotonic() < end:
        await bench.second()
    assert set(bench.state().values()) == {None}, bench.state()


async def test_down_at_start(bench, proxy, key_file, caplog) -> None:
    port = free_port()
    await proxy.stop()
    proxy.url = f"http://127.0.0.1:{port}"
    await bench.start(key_file=key_file())
    for _ in range(6):
        await bench.after(30)
    assert set(trouble(bench)) == {("", "Unreachable")}
    assert bench.output.parts == {}
    await proxy.start(port)
    await recovers(bench)
    assert bench.part("a").model == "gpt-4o"
    assert len(lines(caplog)) == 1


async def test_dies_and_returns(bench, proxy, key_file, caplog) -> None:
    await bench.start(key_file=key_file())
    proxy.succeed("a", 4)
    await bench.looks(6)
    port = int(proxy.url.rpartition(":")[2])
    await proxy.stop()
    before = dict(bench.output.parts)
    for _ in range(12):
        await bench.after(25)
    assert trouble(bench)[-1] == ("", "Unreachable")
    for key, part in bench.output.parts.items():  # the last known stays, but it is no evidence
        unknown = {"status": "unknown", "status_since": part.status_since}
        assert part == structs.replace(before[key], **unknown)
    proxy.restart(process=proxy.date)
    proxy.succeed("a", 1)
    await proxy.start(port)
    await recovers(bench)
    assert bench.part("a").rpm is None  # nobody looked a minute ago
    await bench.looks(7)
    assert bench.part("a").rpm in (0, 1)
    assert len(lines(caplog)) == 1


async def test_while_it_is_down_one_probe_at_a_time_goes_out(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.everything = Reply(raw=b"")  # accepts, and closes
    await bench.after()
    bench.asked()
    for _ in range(5):
        await bench.after(25)
    assert set(bench.asked()) == {"/health/liveliness"}
    proxy.everything = None
    await recovers(bench)


async def test_frozen(bench, proxy, key_file, monkeypatch, caplog) -> None:
    monkeypatch.setattr(limits, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr("telemetron_collectors.litellm.watch.ALIVE_TIMEOUT_SECONDS", 0.1)
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.everything = Reply(frozen=True)
    await bench.looks(2)
    assert trouble(bench)[-1] == ("", "Timeout")
    assert bench.output.parts == before
    proxy.everything = None
    await recovers(bench)
    assert len(lines(caplog)) == 1


async def test_slow_metrics_are_the_metrics_trouble_alone(
    bench, proxy, key_file, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(limits, "TIMEOUT_SECONDS", 1)
    proxy.replies["/metrics/"] = Reply(frozen=True)
    await bench.start(key_file=key_file())
    assert set(trouble(bench)) == {("metrics", "Timeout")}
    assert bench.part("a").model == "gpt-4o"
    await bench.after()
    del proxy.replies["/metrics/"]
    await recovers(bench)
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(401, b"{}"), "Unauthorized"),
        (NO_DATABASE, "Unauthorized"),
        (PLAIN_500, "Unauthorized"),
    ],
)
async def test_a_wrong_key_in_all_its_forms(bench, proxy, key_file, reply, reason, caplog) -> None:
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.replies = dict.fromkeys(EVERYTHING, reply)
    await bench.looks(2)
    assert trouble(bench)[-1] == ("", reason)
    assert bench.output.parts == before
    assert len(lines(caplog)) == 1
    assert KEY not in caplog.text + repr(bench.output.calls)


async def test_a_wrong_key_is_tried_gently(bench, proxy, key_file) -> None:
    proxy.key = "sk-other"
    await bench.start(key_file=key_file())
    bench.asked()
    for _ in range(1200):
        await bench.second()
    asked = bench.asked()
    assert 1200 / 300 <= asked["/v1/models"] <= 1200 / 100 + 6
    assert set(asked) == {"/v1/models", "/health/liveliness"}


async def test_another_key_is_tried_at_once(bench, proxy, key_file, caplog) -> None:
    proxy.key = "sk-other"
    await bench.start(key_file=key_file())
    assert bench.state() == {"": ("Unauthorized", "the proxy does not accept the key")}
    for _ in range(40):
        await bench.second()
    key_file("sk-other")
    await bench.after(1)
    assert bench.part("a").model == "gpt-4o"
    assert set(bench.state().values()) == {None}
    assert len(lines(caplog)) == 1


async def test_the_key_is_changed_while_all_is_well(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.key = "sk-next"
    key_file("sk-next")
    await bench.after()
    assert trouble(bench) == []
    assert proxy.authorizations[-1] == "Bearer sk-next"


@pytest.mark.parametrize("content", [None, "", "two\nlines", "schlüssel"])
async def test_a_key_file_that_holds_none(bench, proxy, key_file, content) -> None:
    file = key_file(content or "")
    if content is None:
        os.unlink(file)
    await bench.start(key_file=file)
    scope, (reason, message) = next(iter(bench.state().items()))
    assert (scope, reason) == ("", "Unauthorized")
    assert message in (
        "key_file: No such file or directory",
        "key_file does not hold one line of ASCII",
    )
    await bench.after(1)
    key_file()
    await bench.after(1)
    assert bench.part("a").model == "gpt-4o"


async def test_a_key_that_is_not_permitted_some(bench, proxy, key_file, caplog) -> None:
    proxy.replies["/model/info"] = Reply(403, b"{}")
    await bench.start(key_file=key_file())
    assert bench.state()["models"] == ("Forbidden", "/model/info: the key is not permitted")
    assert bench.state()["metrics"] is None
    bench.asked()
    for _ in range(100):
        await bench.second(10)
    assert bench.asked()["/model/info"] < 20  # gently too
    del proxy.replies["/model/info"]
    await recovers(bench, within=300)
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize("path", ["/model/info", "/metrics/"])
async def test_a_401_for_one_path_is_not_about_the_key(bench, proxy, key_file, path) -> None:
    """As LiteLLM answers a good key on a path for administrators."""
    proxy.replies[path] = Reply(401, b"{}")
    await bench.start(key_file=key_file())
    await bench.looks(2)
    scope = path.strip("/").partition("/")[0].replace("model", "models")
    assert bench.state()[scope] == ("Forbidden", f"{path}: the key is not permitted")
    assert bench.state()[""] is None
    assert ("", "Unauthorized") not in trouble(bench)


async def test_rate_limited(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.replies["/metrics/"] = Reply(429, b"{}", headers=("retry-after: 60",))
    await bench.after()
    assert bench.state()["metrics"] == ("RateLimited", "/metrics/: 429")
    bench.asked()
    for _ in range(59):
        await bench.second()
    assert "/metrics/" not in bench.asked()
    proxy.replies["/metrics/"] = Reply(429, b"{}", headers=("retry-after: Wed, 21 Oct 2030",))
    await bench.after(1)
    del proxy.replies["/metrics/"]
    await recovers(bench)


async def test_a_500_with_the_socket_closed(bench, proxy, key_file, caplog) -> None:
    await bench.start(key_file=key_file())
    proxy.everything = Reply(500, b"Internal Server Error", "text/plain", cut=5)
    await bench.looks(1)
    assert trouble(bench)[-1] == ("", "BadAnswer")
    proxy.everything = None
    await recovers(bench)
    assert len(lines(caplog)) == 1


async def test_a_pooled_connection_that_was_closed_is_tried_once_more(
    bench, proxy, key_file
) -> None:
    """The first request on it fails; nobody is told."""
    await bench.start(key_file=key_file())
    proxy.next = [Reply(raw=b"")]
    await bench.looks(6)
    assert proxy.next == []
    assert trouble(bench) == []


async def test_every_call_is_a_500(bench, proxy, key_file) -> None:
    """With a database the same plain 500 is a fault of the proxy: it is over soon."""
    await bench.start(key_file=key_file())
    proxy.everything = PLAIN_500
    for _ in range(10):
        await bench.after(25)
    assert trouble(bench)[-1] == ("", "BadAnswer")
    proxy.everything = None
    await recovers(bench)


async def test_one_500_is_not_the_keys(bench, proxy, key_file) -> None:
    proxy.replies["/model/info"] = PLAIN_500
    await bench.start(key_file=key_file())
    assert bench.state()["models"] == ("BadAnswer", "/model/info: answered 500")
    assert bench.state()["metrics"] is None
    del proxy.replies["/model/info"]
    await recovers(bench)


async def test_html_from_a_load_balancer(bench, proxy, key_file, caplog) -> None:
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.everything = HTML
    await bench.looks(1)
    assert trouble(bench)[-1] == ("", "BadAnswer")
    assert bench.output.parts == before
    proxy.everything = None
    await recovers(bench)
    assert "welcome" not in caplog.text + repr(bench.output.calls)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'{"data": [{"model_na'),
        Reply(body=b'{"data": [{"model_name": 1}]}'),
        Reply(body=b"[]"),
        Reply(body=b'{"data": []', cut=100),
        Reply(302, b"", headers=("location: http://elsewhere/",)),
    ],
)
async def test_models_that_cannot_be_understood(bench, proxy, key_file, reply, caplog) -> None:
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.replies["/model/info"] = reply
    await bench.looks(6)
    assert trouble(bench)[-1] == ("models", "BadAnswer")
    assert bench.output.parts.keys() == before.keys()
    assert bench.part("a").rpm == 0  # the metrics go on
    assert bench.state()["metrics"] is None
    del proxy.replies["/model/info"]
    await recovers(bench)
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize(
    "page",
    [
        b'litellm_spend_metric_total{model_id="a"} 1',  # the last line has no end
        b'litellm_spend_metric_total{model_id="a" 1\n',
        b'litellm_spend_metric_total{model_id="a"} many\n',
        b'litellm_spend_metric_total{model_id="a"}\n',
        b"process_start_time_seconds\n",
    ],
)
async def test_metrics_that_cannot_be_understood(bench, proxy, key_file, page) -> None:
    await bench.start(key_file=key_file())
    proxy.replies["/metrics/"] = Reply(200, page, METRICS)
    await bench.after()
    assert bench.state()["metrics"] == ("BadAnswer", "/metrics/ cannot be understood")
    del proxy.replies["/metrics/"]
    await recovers(bench)


async def test_an_answer_without_end(bench, proxy, key_file, monkeypatch) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 5 * 1024 * 1024)
    proxy.replies["/metrics/"] = Reply(200, b"# \n" * 2_000_000, METRICS)
    await bench.start(key_file=key_file())
    assert bench.state()["metrics"] == ("BadAnswer", "/metrics/: more than 5120 KiB")


async def test_unknown_labels_and_metrics_are_skipped(bench, proxy, key_file) -> None:
    proxy.succeed(
        "a", 1, new_label="x", strange='} \\"quoted\\\\', line="\\n", model_group="gpt-4o"
    )
    proxy.count("litellm_new_metric_total", 5, model_id="a")
    proxy.count("litellm_deployment_total_requests_total", 5, something="else")
    await bench.start(key_file=key_file())
    proxy.succeed("a", 2, new_label="y")
    await bench.looks(6)
    assert bench.part("a").rpm == 2
    assert bench.part("a").status == "healthy"


async def test_a_restart_with_counters_at_zero(bench, proxy, key_file) -> None:
    proxy.succeed("a", 100)
    await bench.start(key_file=key_file())
    proxy.succeed("a", 5)
    await bench.looks(2)
    proxy.restart(process=proxy.date + 3)  # by its own clock, whichever that is
    proxy.succeed("a", 2)
    await bench.looks(4)
    assert bench.part("a").rpm == 7
    await bench.looks(6)
    assert bench.part("a").rpm == 0


async def test_counters_that_fall_where_several_processes_share_a_page(
    bench, proxy, key_file
) -> None:
    proxy.process = None
    proxy.succeed("a", 100)
    await bench.start(key_file=key_file())
    proxy.restart(process=None)
    proxy.succeed("a", 2)
    await bench.looks(6)
    assert bench.part("a").rpm is None  # a restart, or another replica with calls of long ago
    proxy.succeed("a", 3)
    await bench.after()
    assert bench.part("a").rpm == 3


async def test_processes_that_count_apart(bench, proxy, key_file) -> None:
    """Each look may be answered by another worker: what one says is not the proxy's use."""
    workers = [(1000.0, 50), (1000.5, 900)]
    await bench.start(key_file=key_file())
    for look in range(12):
        process, calls = workers[look % 2]
        proxy.restart(process)
        proxy.succeed("a", calls + look // 6)
        proxy.count("litellm_spend_metric_total", calls, model_id="a")
        await bench.after()
    one = bench.part("a")
    assert (one.rpm, one.tpm, one.spend) == (None, None, None)
    assert one.status == "healthy"  # that one rose is known all the same
    reason, message = bench.state()["metrics"]
    assert (reason, "one source for each replica" in message) == ("MetricsUnavailable", True)
    await bench.looks(40)  # from now on one process answers
    assert bench.state()["metrics"] is None
    assert bench.part("a").rpm == 0


async def test_a_process_that_was_there_before_is_no_use_of_now(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.restart(process=1500.0)  # older than the last look
    proxy.succeed("a", 900)
    await bench.looks(6)
    assert bench.part("a").rpm is None  # what it was used for in that minute, nobody saw
    assert bench.part("a").status == "unknown"
    await bench.after()
    assert bench.part("a").rpm == 0


async def test_more_processes_than_are_remembered(bench, proxy, key_file, monkeypatch) -> None:
    monkeypatch.setattr("telemetron_collectors.litellm.usage.MAX_PROCESSES", 2)
    await bench.start(key_file=key_file())
    for process in (1.0, 2.0, 3.0, 1000.0):
        proxy.process = process
        await bench.after()
    assert bench.state()["metrics"] is None  # none that is remembered came back


@pytest.mark.parametrize("date", [0.0, 4e9])
async def test_clock_skew(bench, proxy, key_file, date) -> None:
    proxy.date, proxy.process = date, date - 500
    await bench.start(key_file=key_file())
    proxy.succeed("a", 3)
    proxy.cool("a")
    await bench.after()
    assert bench.part("a").cooldown_until == bench.clock.now().replace(second=55)
    await bench.looks(5)
    assert bench.part("a").rpm == 3


async def test_an_answer_without_a_date(bench, proxy, key_file) -> None:
    proxy.date_header = "date: yesterday"
    await bench.start(key_file=key_file())
    proxy.succeed("a", 3)
    await bench.looks(6)
    assert bench.part("a").rpm == 3


async def test_five_megabytes_of_metrics_do_not_block(proxy, key_file) -> None:
    """With the real clock and store. Read on the loop they would take it a third of a second."""
    proxy.models = [model(f"m{n}") for n in range(100)]
    label = "x" * 150
    lines = "".join(
        f'litellm_deployment_total_requests_total{{model_id="m{n % 100}",team="{label}{n}"}} {n}\n'
        for n in range(23_000)
    )
    proxy.replies["/metrics/"] = Reply(200, lines.encode(), METRICS)
    assert len(lines) > 4_900_000
    became_ok = asyncio.Event()
    store = Store("test")
    store.watchers.append(lambda _: source.status == "ok" and became_ok.set())
    config = LitellmConfig(url=proxy.url, key_file=key_file(), interval_seconds=0.1)
    source = store.add("litellm", "litellm")
    source.start(60)
    output = BoundOutput(store, source, collector, Mounts())
    running = asyncio.create_task(collector.run(config, output))
    longest = await most_worked(became_ok)
    assert source.entities == 100
    assert longest < 0.1
    running.cancel()
    await asyncio.wait([running])
    output.close()
    source.stop()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://user:secret@x"}, "url"),
        ({"url": "http://x", "interval_seconds": 0}, "interval_seconds"),
        ({"url": "http://x", "health_check_seconds": 1}, "health_check_seconds"),
        ({"url": "http://x", "key": "a", "key_file": "b"}, "both given"),
        ({}, "url"),
    ],
)
def test_a_configuration_that_is_wrong(config, said, tmp_path) -> None:
    file = tmp_path / "telemetron.yaml"
    file.write_text(json.dumps({"sources": {"litellm": config}}))
    _, specs, _ = parse(str(file), {})
    with pytest.raises(ConfigError) as error:
        configure(specs["litellm"], collector)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


def test_the_environment_alone_switches_it_on(key_file) -> None:
    file = key_file()
    environ = {"TELEMETRON_LITELLM_URL": "http://x:4000", "TELEMETRON_LITELLM_KEY_FILE": file}
    _, specs, problems = parse(None, environ)
    assert problems == []
    config = configure(specs["litellm"], collector)
    assert config == LitellmConfig(url="http://x:4000", key_file=file)
    assert collector.max_age_seconds(config) == 90
    assert collector.address(config) == "x:4000"


def test_the_address_of_the_source_has_no_path() -> None:
    config = LitellmConfig(url="https://eu.example/llm", key=Secret("sk-1"))
    assert collector.address(config) == "eu.example:443"


async def test_a_key_in_the_configuration(bench, proxy) -> None:
    await bench.start(key=Secret(KEY))
    assert bench.part("a").model == "gpt-4o"
    assert KEY not in repr(LitellmConfig(url="http://x", key=Secret(KEY)))


async def test_tls(bench, proxy, key_file) -> None:
    """A proxy that speaks no TLS is not reached by https."""
    proxy.garbage = True
    await bench.start(url=proxy.url.replace("http:", "https:"), key_file=key_file())
    assert bench.state() == {"": ("Unreachable", "ConnectError")}
