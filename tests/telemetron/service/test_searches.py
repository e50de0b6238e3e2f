import asyncio

import pytest

from telemetron.search import SearchResult, TaskQuery
from telemetron.service.searches import MAX_SEARCHES, MAX_WAITING, Searches, TooManyError

QUERY = TaskQuery(id="t", look=10, seconds=5.0)


@pytest.fixture
def searches():
    return Searches()


async def found(query):
    return SearchResult(unchecked=[query.id])


async def test_each_source_answers_for_itself(searches, logged):
    async def broken(query):
        raise ValueError("secret")

    searches.add("a", found)
    searches.add("b", broken)
    assert await searches.ask(QUERY) == {
        "a": SearchResult(unchecked=["t"]),
        "b": SearchResult(unchecked=["the search failed: ValueError"]),
    }
    assert any("source b" in line for line in logged)


async def test_a_source_whose_run_has_ended_is_not_asked(searches):
    searches.add("a", found)
    searches.remove("a")
    searches.remove("a")
    assert await searches.ask(QUERY) == {}


async def test_a_search_that_hangs_is_given_up(searches):
    searches.add("a", lambda query: asyncio.Event().wait())
    query = TaskQuery(id="t", look=10, seconds=0.01)
    answer = await searches.ask(query)
    assert answer == {"a": SearchResult(unchecked=["no answer within 0.01 s"])}


async def test_few_run_at_a_time_and_few_more_wait(searches):
    running, most, gate = 0, 0, asyncio.Event()

    async def slow(query):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return SearchResult()

    searches.add("a", slow)
    asked = [asyncio.create_task(searches.ask(QUERY)) for _ in range(MAX_SEARCHES + MAX_WAITING)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(TooManyError):
        await searches.ask(QUERY)
    gate.set()
    await asyncio.gather(*asked)
    assert most == MAX_SEARCHES
    assert await searches.ask(QUERY) == {"a": SearchResult()}


async def test_a_search_waits_no_longer_than_it_may_take(searches):
    searches.add("a", lambda query: asyncio.Event().wait())
    slow = [asyncio.create_task(searches.ask(QUERY)) for _ in range(MAX_SEARCHES)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyError):
        await searches.ask(TaskQuery(id="t", seconds=0.01))
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert await asyncio.wait_for(searches.ask(TaskQuery(id="t", seconds=0.01)), 30)
