"""`GET /system/tasks/{id}`: the place of one task, over all sources and the past."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import unquote

import msgspec

from telemetron.answers.task import Answer, answer
from telemetron.answers.task_draft import Draft, Sought
from telemetron.answers.task_sightings import Sightings
from telemetron.history.history import BusyError, History
from telemetron.history.timeline import Timeline
from telemetron.http import HttpProblem, Receive, Scope, Send
from telemetron.http import answer as send_answer
from telemetron.nearest import similar
from telemetron.query import parameters, shown
from telemetron.search import MAX_LOOK, SearchResult, TaskQuery, TaskSighting
from telemetron.service.searches import TooManyError
from telemetron.service.supervisor import Supervisor
from telemetron.store.store import Store
from telemetron.web.nearest import unknown_task
from telemetron.web.routes import TASKS

LOOK = 5_000
HISTORY_SECONDS = 2.0
HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


class TasksApp:
    """Answers `/system/tasks/…`: a draft in the history's thread, then a search if it needs one."""

    def __init__(self, store: Store, history: History, supervisor: Supervisor) -> None:
        self._store = store
        self._history = history
        self._supervisor = supervisor

    def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """Answer a request; `path` begins with `/system/tasks/` and lacks `root_path`."""
        return self._answer(scope, send, unquote(path[len(TASKS) + 1 :]))

    async def _answer(self, scope: Scope, send: Send, text: str) -> None:
        look = _look(parameters(scope["query_string"], ("look",)))
        sought = Sought.parse(text)
        if not sought.id:
            raise HttpProblem(404, f"name a task: {TASKS}/{{id}}, with printable characters")
        found = await self._find(sought, look)
        await send_answer(scope, send, 200, msgspec.json.encode(found.body), HEADERS)

    async def _find(self, sought: Sought, look: int) -> Answer:
        snapshot = self._store.snapshot
        draft = await self._draft(lambda: Sightings(snapshot), sought, ())
        query = draft.query(look)
        results = await self._search(query) if query else {}
        if seen := draft.news(results):
            sightings = draft.sightings
            draft = await self._draft(lambda: sightings, sought, seen)
        found = await asyncio.to_thread(answer, draft, results, query)
        if found.body["where"] == "unknown":
            near = await asyncio.to_thread(similar, sought.id, draft.sightings.names())
            if found.is_nothing:
                raise unknown_task(sought.id, near)
            if near and not draft.found.ids.intersection(near):
                found.body["nearest"] = near
        return found

    async def _draft(
        self, sightings: Callable[[], Sightings], sought: Sought, seen: Sequence[TaskSighting]
    ) -> Draft:
        """Return a draft; without the history if that does not answer in time."""
        feeds = {name: it.sections for name, it in self._supervisor.collectors.items()}

        def make(timeline: Timeline | None) -> Draft:
            return Draft(sought, sightings(), timeline, feeds, seen)

        try:
            return await self._history.ask(make, HISTORY_SECONDS)
        except BusyError:
            return await asyncio.to_thread(make, None)

    async def _search(self, query: TaskQuery) -> Mapping[str, SearchResult]:
        try:
            return await self._supervisor.searches.ask(query)
        except TooManyError:
            detail = "too many searches for tasks are running; retry, or send look=0"
            raise HttpProblem(503, detail, {"retry-after": "2"}) from None


def _look(given: Mapping[str, str]) -> int:
    text = given.get("look", str(LOOK))
    is_short = text.isascii() and text.isdigit() and len(text) < 10
    if not (is_short and int(text) <= MAX_LOOK):
        raise HttpProblem(400, f"look: expected 0 to {MAX_LOOK:,} records; got {shown(text)}")
    return int(text)
