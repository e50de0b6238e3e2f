"""Outages of the proxy and refused keys: the last known values stay, and the polls recover."""

import os

import pytest
from msgspec import structs

from telemetron.secret import Secret
from telemetron_collectors.litellm import LitellmConfig
from telemetron_collectors.litellm.client import HttpLimits
from telemetron_collectors.litellm.proxy import ProxyLimits
from tests.collectors.litellm.scripted import (
    KEY,
    NO_DATABASE,
    PLAIN_500,
    Reply,
    lines,
    recovers,
    trouble,
)
from tests.ports import free_port

EVERYTHING = "/model/info", "/metrics/", "/router/settings", "/provider/budgets", "/v1/models"


async def test_a_proxy_that_is_down_at_the_start(bench, proxy, key_file, logged) -> None:
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
    assert len(lines(logged)) == 1


async def test_a_proxy_that_dies_and_returns(bench, proxy, key_file, logged) -> None:
    await bench.start(key_file=key_file())
    proxy.succeed("a", 4)
    await bench.polls(6)
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
    await bench.polls(7)
    assert bench.part("a").rpm in (0, 1)
    assert len(lines(logged)) == 1


async def test_only_probes_are_sent_while_the_proxy_is_down(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.everything = Reply(raw=b"")  # accepts, and closes
    await bench.after()
    bench.asked()
    for _ in range(5):
        await bench.after(25)
    assert set(bench.asked()) == {"/health/liveliness"}
    proxy.everything = None
    await recovers(bench)


async def test_a_frozen_proxy_is_a_timeout(bench, proxy, key_file, logged) -> None:
    http = HttpLimits(timeout_seconds=0.1, alive_timeout_seconds=0.1)
    await bench.start(ProxyLimits(http=http), key_file=key_file())
    before = dict(bench.output.parts)
    proxy.everything = Reply(frozen=True)
    await bench.polls(2)
    assert trouble(bench)[-1] == ("", "Timeout")
    assert bench.output.parts == before
    proxy.everything = None
    await recovers(bench)
    assert len(lines(logged)) == 1


async def test_slow_metrics_are_a_problem_of_the_metrics_only(
    bench, proxy, key_file, logged
) -> None:
    proxy.replies["/metrics/"] = Reply(frozen=True)
    limits = ProxyLimits(http=HttpLimits(timeout_seconds=0.1))
    await bench.start(limits, key_file=key_file())
    assert set(trouble(bench)) == {("metrics", "Timeout")}
    assert bench.part("a").model == "gpt-4o"
    await bench.after()
    del proxy.replies["/metrics/"]
    await recovers(bench)
    assert len(lines(logged)) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(401, b"{}"), "Unauthorized"),
        (NO_DATABASE, "Unauthorized"),
        (PLAIN_500, "Unauthorized"),
    ],
)
async def test_each_answer_to_a_wrong_key_is_unauthorized(
    bench, proxy, key_file, reply, reason, logged
) -> None:
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.replies = dict.fromkeys(EVERYTHING, reply)
    await bench.polls(2)
    assert trouble(bench)[-1] == ("", reason)
    assert bench.output.parts == before
    assert len(lines(logged)) == 1
    assert KEY not in "".join(logged) + repr(bench.output.calls)


async def test_a_wrong_key_is_retried_rarely(bench, proxy, key_file) -> None:
    proxy.key = "sk-other"
    await bench.start(key_file=key_file())
    bench.asked()
    for _ in range(1200):
        await bench.second()
    asked = bench.asked()
    assert 1200 / 300 <= asked["/v1/models"] <= 1200 / 100 + 6
    assert set(asked) == {"/v1/models", "/health/liveliness"}


async def test_a_changed_key_is_tried_at_once(bench, proxy, key_file, logged) -> None:
    proxy.key = "sk-other"
    await bench.start(key_file=key_file())
    assert bench.state() == {"": ("Unauthorized", "the proxy does not accept the key")}
    for _ in range(40):
        await bench.second()
    key_file("sk-other")
    await bench.after(1)
    assert bench.part("a").model == "gpt-4o"
    assert set(bench.state().values()) == {None}
    assert len(lines(logged)) == 1


async def test_a_key_can_be_changed_without_an_outage(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.key = "sk-next"
    key_file("sk-next")
    await bench.after()
    assert trouble(bench) == []
    assert proxy.authorizations[-1] == "Bearer sk-next"


@pytest.mark.parametrize("content", [None, "", "two\nlines", "schlüssel"])
async def test_a_key_file_without_a_key(bench, proxy, key_file, content) -> None:
    file = key_file(content or "")
    if content is None:
        os.unlink(file)
    await bench.start(key_file=file)
    scope, (reason, message) = next(iter(bench.state().items()))
    assert (scope, reason) == ("", "Unauthorized")
    assert message in (
        "key_file: No such file or directory",
        "key_file must contain one line of ASCII",
    )
    await bench.after(1)
    key_file()
    await bench.after(1)
    assert bench.part("a").model == "gpt-4o"


async def test_a_key_that_may_not_read_one_path(bench, proxy, key_file, logged) -> None:
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
    assert len(lines(logged)) == 1


@pytest.mark.parametrize("path", ["/model/info", "/metrics/"])
async def test_a_401_for_one_path_is_not_about_the_key(bench, proxy, key_file, path) -> None:
    """As LiteLLM answers a good key on a path for administrators."""
    proxy.replies[path] = Reply(401, b"{}")
    await bench.start(key_file=key_file())
    await bench.polls(2)
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


async def test_a_500_for_every_call_is_a_bad_answer(bench, proxy, key_file) -> None:
    """With a database the same plain 500 is a fault of the proxy: it is over soon."""
    await bench.start(key_file=key_file())
    proxy.everything = PLAIN_500
    for _ in range(10):
        await bench.after(25)
    assert trouble(bench)[-1] == ("", "BadAnswer")
    proxy.everything = None
    await recovers(bench)


async def test_one_500_is_not_about_the_key(bench, proxy, key_file) -> None:
    proxy.replies["/model/info"] = PLAIN_500
    await bench.start(key_file=key_file())
    assert bench.state()["models"] == ("BadAnswer", "/model/info: answered 500")
    assert bench.state()["metrics"] is None
    del proxy.replies["/model/info"]
    await recovers(bench)


async def test_a_key_in_the_configuration(bench, proxy) -> None:
    await bench.start(key=Secret(KEY))
    assert bench.part("a").model == "gpt-4o"
    assert KEY not in repr(LitellmConfig(url="http://x", key=Secret(KEY)))
