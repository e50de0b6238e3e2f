"""Answers that are late, cut short, too large, or from another server."""

import pytest

from telemetron_collectors.litellm.client import HttpLimits
from telemetron_collectors.litellm.proxy import ProxyLimits
from tests.collectors.litellm.scripted import (
    HTML,
    METRICS,
    Reply,
    lines,
    recovers,
    trouble,
)


async def test_a_truncated_500_is_a_bad_answer(bench, proxy, key_file, logged) -> None:
    await bench.start(key_file=key_file())
    proxy.everything = Reply(500, b"Internal Server Error", "text/plain", cut=5)
    await bench.polls(1)
    assert trouble(bench)[-1] == ("", "BadAnswer")
    proxy.everything = None
    await recovers(bench)
    assert len(lines(logged)) == 1


async def test_a_request_on_a_closed_pooled_connection_is_sent_again(
    bench, proxy, key_file
) -> None:
    """The first request on it fails; nobody is told."""
    await bench.start(key_file=key_file())
    proxy.next = [Reply(raw=b"")]
    await bench.polls(6)
    assert proxy.next == []
    assert trouble(bench) == []


async def test_html_from_a_load_balancer_is_a_bad_answer(bench, proxy, key_file, logged) -> None:
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.everything = HTML
    await bench.polls(1)
    assert trouble(bench)[-1] == ("", "BadAnswer")
    assert bench.output.parts == before
    proxy.everything = None
    await recovers(bench)
    assert "welcome" not in "".join(logged) + repr(bench.output.calls)


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
async def test_malformed_models_keep_the_last_known_ones(
    bench, proxy, key_file, reply, logged
) -> None:
    await bench.start(key_file=key_file())
    before = dict(bench.output.parts)
    proxy.replies["/model/info"] = reply
    await bench.polls(6)
    assert trouble(bench)[-1] == ("models", "BadAnswer")
    assert bench.output.parts.keys() == before.keys()
    assert bench.part("a").rpm == 0  # the metrics go on
    assert bench.state()["metrics"] is None
    del proxy.replies["/model/info"]
    await recovers(bench)
    assert len(lines(logged)) == 1


async def test_an_answer_that_is_too_large_is_a_bad_answer(bench, proxy, key_file) -> None:
    limits = ProxyLimits(http=HttpLimits(max_bytes=5 * 1024 * 1024))
    proxy.replies["/metrics/"] = Reply(200, b"# \n" * 2_000_000, METRICS)
    await bench.start(limits, key_file=key_file())
    assert bench.state()["metrics"] == ("BadAnswer", "/metrics/: more than 5120 KiB")


async def test_an_answer_without_a_date(bench, proxy, key_file) -> None:
    proxy.date_header = "date: yesterday"
    await bench.start(key_file=key_file())
    proxy.succeed("a", 3)
    await bench.polls(6)
    assert bench.part("a").rpm == 3


async def test_tls(bench, proxy, key_file) -> None:
    """A proxy that speaks no TLS is not reached by https."""
    proxy.garbage = True
    await bench.start(url=proxy.url.replace("http:", "https:"), key_file=key_file())
    assert bench.state() == {"": ("Unreachable", "no TLS with the server")}
