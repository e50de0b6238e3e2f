"""Searches for tasks: the collectors that offer one, and how many run at a time."""

import asyncio
from collections.abc import Mapping

from loguru import logger

from telemetron.search import Search, SearchResult, TaskQuery

MAX_SEARCHES = 2
MAX_WAITING = 16
GRACE_SECONDS = 0.25
"""How much longer than `TaskQuery.seconds` a collector may take: to return what it has."""


class TooManyError(Exception):
    """Too many searches run or wait."""


class Searches:
    """The searches that the running sources offer."""

    def __init__(self) -> None:
        self._offered: dict[str, Search] = {}
        self._room = asyncio.Semaphore(MAX_SEARCHES)
        self._waiting = 0

    def add(self, source: str, search: Search) -> None:
        """Offer the search of a source; it replaces an earlier one."""
        self._offered[source] = search

    def remove(self, source: str) -> None:
        """Withdraw the search of a source whose run has ended."""
        self._offered.pop(source, None)

    async def ask(self, query: TaskQuery) -> Mapping[str, SearchResult]:
        """Return the answer of each source that offers a search; a failed search says so.

        Raise TooManyError if others keep it waiting for as long as the query may take.
        """
        if not self._offered:
            return {}
        if self._waiting >= MAX_WAITING:
            raise TooManyError
        self._waiting += 1
        try:
            async with asyncio.timeout(query.seconds):
                await self._room.acquire()
        except TimeoutError:
            raise TooManyError from None
        finally:
            self._waiting -= 1
        try:
            names = list(self._offered)
            answers = await asyncio.gather(*(self._ask(name, query) for name in names))
            return dict(zip(names, answers, strict=True))
        finally:
            self._room.release()

    async def _ask(self, source: str, query: TaskQuery) -> SearchResult:
        try:
            async with asyncio.timeout(query.seconds + GRACE_SECONDS):
                return await self._offered[source](query)
        except TimeoutError:
            return SearchResult(unchecked=[f"no answer within {query.seconds:g} s"])
        except Exception as error:
            logger.opt(exception=error).error("source {}: the search for a task failed", source)
            return SearchResult(unchecked=[f"the search failed: {type(error).__name__}"])
