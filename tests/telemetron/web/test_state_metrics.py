import asyncio
import re
import zlib
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from telemetron.exposition.agents import FAMILIES
from telemetron.exposition.exposition import DROPPED
from telemetron.exposition.finished import Finished
from telemetron.exposition.sections import sections
from tests.telemetron.exposition.scrape import of, parsed
from tests.telemetron.web.client import beat

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
HOSTILE = 'a"b\\c{x="y"} 1 # 名'
TOKENS = "server: {auth: {read: rrrr, write: wwww, metrics: mmmm}}"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/html", TEXT),
        ("", TEXT),
        (";;;,,", TEXT),
        (PROMETHEUS, OPEN),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", TEXT),
    ],
)
async def test_the_format_is_the_one_that_the_scraper_prefers(live, accept, content_type):
    await beat(live, quote(HOSTILE, safe=""))
    answer = await live.client.get("/metrics/state", headers={"accept": accept})
    assert answer.headers["content-type"] == content_type
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    found = parsed(answer.text, content_type == OPEN)
    (name,) = {dict(key[1:])["agent"] for key in found if key[0] == "telemetron_agent_info"}
    state = (await live.client.get("/system/state")).json()
    assert name == state["agents"][0]["name"]


async def test_it_agrees_with_the_document(live):
    await beat(live, "planner", tasks=[{"id": "t", "waits": [{"kind": "llm"}]}])
    await beat(live, "planner", instance="i2")
    found = parsed((await live.client.get("/metrics/state")).text)
    one = {"namespace": "prod", "agent": "planner"}
    assert of(found, "agent_status", **one)["active"] == 1
    assert of(found, "agent_instances", **one) == {"active": 1, "idle": 1, "silent": 0}
    assert of(found, "agent_tasks", **one) == {"running": 0, "waiting": 1}
    assert of(found, "agent_waits", **one) == {"llm": 1}
    rows = (await live.client.get("/system/state/sources")).json()["sources"]
    status = of(found, "source_status")
    assert {row["key"]: row["status"] for row in rows} == {
        source: state for (collector, source, state), is_so in status.items() if is_so
    }


async def test_it_is_compressed_for_clients_that_accept_it(live):
    await beat(live)
    plain = await live.client.get("/metrics/state")
    packed = await live.client.get("/metrics/state", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < len(plain.content)


async def test_head_has_the_headers_and_no_body(live):
    answer = await live.client.head("/metrics/state")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 1_000


@pytest.mark.parametrize("query", ["sections=agents,sources", "sections=sources&sections=agents"])
async def test_sections_may_be_chosen(live, query):
    await beat(live)
    names = set(
        re.findall(
            r"# TYPE telemetron_(\w+?)_", (await live.client.get(f"/metrics/state?{query}")).text
        )
    )
    assert names == {"source", "agent", "state"}


@pytest.mark.parametrize(
    ("query", "nearest"),
    [("sections=nonsense", ""), ("sections=", ""), ("sections=agent", "agents"), ("x=1", "")],
)
async def test_a_wrong_query_gets_a_problem(live, query, nearest):
    answer = await live.client.get(f"/metrics/state?{query}")
    assert answer.status_code == 400
    assert nearest in ("", *answer.json().get("nearest", ())[:1])


async def test_only_the_metrics_token_opens_it(serving):
    async with serving(TOKENS) as live:
        for path in ("/metrics/state", "/metrics"):
            for token, expected in (("mmmm", 200), ("rrrr", 403), ("wwww", 403), ("x", 401)):
                headers = {"authorization": f"Bearer {token}"}
                assert (await live.client.get(path, headers=headers)).status_code == expected
            assert (await live.client.get(path)).status_code == 401
        for path in ("/system/state", "/openapi.json", "/"):
            headers = {"authorization": "Bearer mmmm"}
            assert (await live.client.get(path, headers=headers)).status_code == 403
        document = await live.client.get("/openapi.json", headers={"authorization": "Bearer rrrr"})
        operation = document.json()["paths"]["/metrics/state"]["get"]
        assert operation["security"] == [{"metrics": []}]


async def test_max_series_is_configured(serving):
    async with serving("metrics: {max_series: 1000}") as live:
        for number in range(100):
            await beat(live, f"agent-{number}")
        found = parsed((await live.client.get("/metrics/state")).text)
        assert of(found, "state_series_dropped")["agents"] > 0
        assert len(found) <= 1000 + 6  # those that count the dropped ones


async def test_many_scrapers_in_a_storm_and_some_that_hang_up(live):
    """Each of them gets a whole page of some moment; those that go away harm nobody."""
    for number in range(50):
        await beat(live, f"agent-{number}")
    storm = asyncio.create_task(rage(live))
    gone = [asyncio.create_task(hang_up(live.url)) for _ in range(5)]
    headers = {"accept": PROMETHEUS, "accept-encoding": "gzip"}
    async with httpx.AsyncClient(base_url=live.url, headers=headers, verify=False) as client:
        for _ in range(2):
            answers = await asyncio.gather(*[client.get("/metrics/state") for _ in range(20)])
            for answer in answers:
                assert answer.text.endswith("# EOF\n")
            found = parsed(answers[-1].text, is_open=True)
            assert len(of(found, "agent_info", namespace="prod")) == 50
    storm.cancel()
    await asyncio.gather(*gone)
    assert (await live.client.get("/metrics/state")).status_code == 200


async def rage(live):
    """Beat without end, so that each scrape finds another revision."""
    number = 0
    while True:
        number += 1
        task = {"id": f"t-{number}", "progressed_at": "2030-01-01T00:00:00Z"}
        await beat(live, f"agent-{number % 50}", tasks=[task])


async def hang_up(url):
    """Ask for a page and go away before it comes."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics/state HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.read(10)
    writer.transport.abort()


async def test_a_gzip_answer_is_one_member(live):
    """As the decoders of curl and of most libraries expect."""
    await beat(live)
    async with live.client.stream(
        "GET", "/metrics/state", headers={"accept-encoding": "gzip"}
    ) as answer:
        body = b"".join([chunk async for chunk in answer.aiter_raw()])
    reader = zlib.decompressobj(wbits=31)
    reader.decompress(body)
    assert (reader.eof, reader.unused_data) == (True, b"")


def test_docs_list_every_metric_its_type_and_its_labels():
    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    page = page.partition("\n## The observed system\n")[2]
    rows = re.findall(r"^\| `(telemetron_\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    families = [family for one in sections(Finished()).values() for family in one.families]
    assert set(FAMILIES) < set(families)
    shown = {family.name: (family.type, family.labels) for family in [*families, DROPPED]}
    assert told == shown
