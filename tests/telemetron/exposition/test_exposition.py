import asyncio

import pytest
from msgspec.structs import replace

from telemetron.document import Task
from telemetron.exposition.exposition import MOST_PAGES, Asked
from tests.telemetron.answers.brief.made import (
    SECTIONS,
    RandomSystem,
    agent,
    incident,
    queue,
    snapshot,
    source,
)
from tests.telemetron.exposition.scrape import Scraper, of, parsed

NAME = "telemetron_state_series_dropped"


NAMED = {"agents": "name", "queues": "name", "litellm": "id", "workload": "deployment_name"}


def with_own_names(entities):
    """Return them with names that differ where their keys do, as those of a store."""
    return entities | {
        section: [replace(one, **{field: f"{getattr(one, field)} {n}"}) for n, one in enumerate(of)]
        for section, field in NAMED.items()
        if (of := entities.get(section))
    }


@pytest.fixture
def scraper():
    scraper = Scraper()
    scraper.show(**incident())
    return scraper


def test_both_formats_have_the_same_series(scraper):
    text, opened = parsed(scraper.text()), parsed(scraper.text(is_open=True), is_open=True)
    assert text == opened
    assert scraper.text(is_open=True).endswith("\n# EOF\n")


@pytest.mark.parametrize("seed", range(5))
def test_no_system_makes_a_page_that_cannot_be_read(seed):
    scraper = Scraper()
    scraper.show(**with_own_names(RandomSystem(seed, 60, 20).entities))
    text = scraper.text()
    found = parsed(text)
    assert found == parsed(scraper.text(is_open=True), is_open=True)
    assert len(found) > 100
    assert scraper.text(is_gzip=True) == text


def test_the_lines_of_a_family_are_in_a_row(scraper):
    scraper.show(agents=[agent(f"agent-{n:05}") for n in range(2_000)])
    names = [
        line.partition("{")[0] for line in scraper.text("agents").splitlines() if line[0] != "#"
    ]
    changes = [name for name, before in zip(names, ["", *names], strict=False) if name != before]
    assert len(changes) == len(set(changes))


def test_only_the_sections_asked_for_are_shown(scraper):
    found = scraper.found("agents", "queues")
    prefixes = {key[0].split("_")[1] for key in found}
    assert prefixes == {"agent", "queue", "state"}
    assert {key[1] for key in found if key[0] == NAME} == {
        ("section", "agents"),
        ("section", "queues"),
    }


def test_an_unchanged_page_is_made_once(scraper):
    asked = Asked(SECTIONS, open_metrics=False, gzip=True)
    first = asyncio.run(scraper.exposition.page(asked))
    assert asyncio.run(scraper.exposition.page(asked)) is first


async def test_few_pages_are_kept_whatever_is_asked_for(scraper):
    first = Asked(SECTIONS, open_metrics=False, gzip=False)
    page = await scraper.exposition.page(first)
    for name in SECTIONS[: MOST_PAGES - 1]:
        await scraper.exposition.page(Asked((name,), open_metrics=False, gzip=False))
    assert await scraper.exposition.page(first) is page
    await scraper.exposition.page(Asked(("agents", "queues"), open_metrics=False, gzip=False))
    again = await scraper.exposition.page(first)
    assert again == page
    assert again is not page


def test_a_change_renders_only_what_changed():
    scraper = Scraper()
    agents = [agent(f"a-{n}") for n in range(50)]
    before = snapshot(agents=agents)
    scraper.store.snapshot = before
    scraper.text()
    rope = before.sections["agents"].rope
    lines = {fragment.entity.key: fragment.lines for fragment in rope}
    assert all(lines.values())
    new = snapshot(agents=[agent("a-7", status="silent")]).sections["agents"].rope.get("prod/a-7")
    steps, edited = rope.edited({"prod/a-7": new}), None
    while edited is None:
        try:
            next(steps)
        except StopIteration as done:
            edited = done.value
    after = snapshot()
    after.sections["agents"] = before.sections["agents"]._replace(rope=edited)
    scraper.store.snapshot = after
    assert of(scraper.found(), "agent_status", namespace="prod", agent="a-7")["silent"] == 1
    rendered = {fragment.entity.key: fragment.lines for fragment in edited}
    assert [key for key, one in rendered.items() if one is not lines[key]] == ["prod/a-7"]


def test_a_page_has_at_most_max_series():
    scraper = Scraper(max_series=300)
    agents = [agent(f"a-{n:03}", status="silent" if n >= 90 else "idle") for n in range(100)]
    queues = [queue(f"q-{n}") for n in range(10)]
    scraper.show(agents=agents, queues=queues, sources=[source("kafka")])
    found = scraper.found()
    shown = [key for key in found if key[0] != NAME]
    assert 280 < len(shown) <= 300
    dropped = of(found, "state_series_dropped")
    whole = Scraper()
    whole.show(agents=agents, queues=queues, sources=[source("kafka")])
    every = [key for key in whole.found() if key[0] != NAME]
    assert sum(dropped.values()) == len(every) - len(shown)
    assert [name for name, number in dropped.items() if number] == ["agents"]
    names = {dict(key[1:])["agent"] for key in shown if key[0] == "telemetron_agent_info"}
    assert {f"a-{n:03}" for n in range(90, 100)} < names  # the worst
    assert "a-000" in names  # then by key
    assert scraper.text(is_gzip=True) == scraper.text()


def test_large_sections_share_the_space():
    scraper = Scraper(max_series=200)
    scraper.show(
        agents=[agent(f"a-{n}") for n in range(100)], queues=[queue(f"q-{n}") for n in range(500)]
    )
    found = scraper.found("agents", "queues")
    shown = [
        sum(key[0].startswith(f"telemetron_{name}_") for key in found)
        for name in ("agent", "queue")
    ]
    assert min(shown) > 80


async def test_scrapes_that_come_together_share_one_rendering():
    scraper = Scraper()
    scraper.show(agents=[agent(f"a-{n}") for n in range(300)])
    asked = Asked(SECTIONS, open_metrics=False, gzip=True)
    pages = await asyncio.gather(*[scraper.exposition.page(asked) for _ in range(20)])
    assert all(page is pages[0] for page in pages)


async def test_a_scrape_after_a_change_shows_it_whatever_runs():
    scraper = Scraper()
    asked = Asked(("agents",), open_metrics=False, gzip=False)
    scraper.show(agents=[agent(f"a-{n}") for n in range(2_000)])
    running = asyncio.create_task(scraper.exposition.page(asked))
    await asyncio.sleep(0)
    scraper.show(agents=[agent("new")])
    late = [asyncio.create_task(scraper.exposition.page(asked)) for _ in range(5)]
    assert b"a-1999" in b"".join(await running)
    pages = await asyncio.gather(*late)
    assert b'agent="new"' in b"".join(pages[0])
    assert all(page is pages[0] for page in pages)


async def test_a_cancelled_scrape_harms_no_other():
    scraper = Scraper()
    scraper.show(agents=[agent(f"a-{n}") for n in range(2_000)])
    asked = Asked(("agents",), open_metrics=False, gzip=False)
    first, second = (asyncio.create_task(scraper.exposition.page(asked)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert b"a-1999" in b"".join(await second)


async def test_a_large_page_is_made_in_many_turns_of_the_event_loop():
    tasks = [Task(id=f"t-{n}", status="running", stalled=False) for n in range(3)]
    for is_gzip in (True, False):
        scraper = Scraper()
        scraper.show(agents=[agent(f"a-{n}", *tasks) for n in range(3_000)])
        asked = Asked(("agents",), open_metrics=False, gzip=is_gzip)
        page = asyncio.create_task(scraper.exposition.page(asked))
        turns = 0
        while not page.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 5
