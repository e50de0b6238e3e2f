"""`GET /system/brief`: what matters now within a budget of tokens, as JSON or Markdown.

Threads make it, so the event loop only looks up what the current revision has already answered.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Iterator, Mapping
from typing import NamedTuple

from telemetron.answers.brief import budget, past
from telemetron.answers.brief.about import Joins, Search, Target, UnknownError
from telemetron.answers.brief.brief import Known, Question, causes, centred, overview, past_of
from telemetron.answers.brief.budget import Form
from telemetron.answers.brief.forms import Json, Markdown
from telemetron.answers.brief.survey import Survey
from telemetron.history.history import History
from telemetron.http import EMPTY, HttpProblem, Receive, Scope, Send, answer, header
from telemetron.query import parameters, shown
from telemetron.slices import sliced
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Store
from telemetron.web.nearest import unknown_name
from telemetron.web.negotiation import preferred
from telemetron.web.pages.headers import etag_of
from telemetron.web.recall import recall
from telemetron.web.representation import matches

PARAMETERS = ("max_tokens", "about", "bytes_per_token")
MAX_ABOUT = 1_024
MOST_KEPT = 64
"""Answers that are kept of one revision."""
# A thread holds the interpreter no longer than this; the event loop runs in between.
SLICE_SECONDS = 0.001
REST_SECONDS = 0.00005
_NUMBER = re.compile(r"[0-9]{1,32}(\.[0-9]{1,32})?([eE][+-]?[0-9]{1,3})?")
"""As JSON and the OpenAPI document write numbers; none below 0 is within the bounds."""

FORMS: Mapping[str, Form] = {one.media: one for one in (Json(), Markdown())}


class Asked(NamedTuple):
    """One question, and the media type of its answer."""

    question: Question
    media: str


class Briefs:
    """The answers of one revision; equal questions share one."""

    def __init__(self, snapshot: Snapshot, history: History) -> None:
        self.snapshot = snapshot
        self._history = history
        self._answers: dict[Asked, asyncio.Future[bytes]] = {}
        self._survey: asyncio.Future[Survey] | None = None

    async def get(self, asked: Asked) -> bytes:
        """Return the answer. Raises HttpProblem."""
        future = self._answers.get(asked)
        if future is None:
            future = asyncio.ensure_future(self._make(asked))
            while len(self._answers) >= MOST_KEPT:
                del self._answers[next(iter(self._answers))]
            self._answers[asked] = future
            future.add_done_callback(lambda done: self._made(asked, done))
        return await asyncio.shield(future)

    def _made(self, asked: Asked, done: "asyncio.Future[bytes]") -> None:
        """Forget an answer that failed: the next question may succeed."""
        if done.cancelled() or done.exception():
            self._answers.pop(asked, None)

    async def _surveyed(self) -> Survey:
        if self._survey is None:
            self._survey = asyncio.ensure_future(asyncio.to_thread(_surveyed, self.snapshot))
        return await asyncio.shield(self._survey)

    async def _make(self, asked: Asked) -> bytes:
        survey, question = await self._surveyed(), asked.question
        form = FORMS[asked.media]
        if question.about is None:
            wanted = await asyncio.to_thread(past.onset, survey, causes(survey))
            known = await self._known(wanted)
            return await asyncio.to_thread(overview, survey, known, question, form)
        about = question.about
        try:
            targets, joins = await asyncio.to_thread(_found, survey, about)
        except UnknownError as error:
            raise unknown_name(about, error.nearest, question.root) from None
        known = await self._known(past_of(joins))
        return await asyncio.to_thread(centred, survey, targets, joins, known, question, form)

    async def _known(self, wanted: past.Asked) -> Known:
        """Ask the history; a brief without changes is better than none."""
        if not wanted.ids:
            return Known()
        until = self.snapshot.change.at
        try:
            found = await recall(self._history, lambda one: past.changes(one, wanted, until))
        except HttpProblem as problem:
            return Known(problem=problem.detail)
        return Known(found)


class BriefApp:
    """Answers `/system/brief`."""

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history
        self._briefs = Briefs(store.snapshot, history)

    def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """Answer a request."""
        return self._answer(scope, send)

    async def _answer(self, scope: Scope, send: Send) -> None:
        asked = _asked(scope)
        if self._briefs.snapshot is not self._store.snapshot:
            self._briefs = Briefs(self._store.snapshot, self._history)
        briefs = self._briefs
        etag = etag_of(
            f"{briefs.snapshot.epoch}.{briefs.snapshot.change.revision} {asked}".encode()
        )
        headers = {"etag": etag, "cache-control": "no-cache", "vary": "Accept"}
        if matches(header(scope, b"if-none-match"), etag.encode()):
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 304, "headers": raw})
            return await send(EMPTY)
        body = await briefs.get(asked)
        await answer(scope, send, 200, body, headers | {"content-type": _content_type(asked.media)})


def _content_type(media: str) -> str:
    return media if media == Json.media else f"{media}; charset=utf-8"


def _asked(scope: Scope) -> Asked:
    given = parameters(scope["query_string"], PARAMETERS)
    media = preferred(header(scope, b"accept").decode("latin-1"), list(FORMS))
    if media is None:
        raise HttpProblem(406, f"this path answers with {' or '.join(FORMS)}")
    about = given.get("about")
    if about is not None and not 0 < len(about) <= MAX_ABOUT:
        raise HttpProblem(400, f"about: expected a key, a name or an id; got {shown(about)}")
    tokens = _number(
        given, "max_tokens", budget.DEFAULT_TOKENS, budget.LEAST_TOKENS, budget.MOST_TOKENS
    )
    least, most = budget.LEAST_BYTES_PER_TOKEN, budget.MOST_BYTES_PER_TOKEN
    ratio = _number(given, "bytes_per_token", budget.BYTES_PER_TOKEN, least, most)
    if tokens != int(tokens):
        raise HttpProblem(400, f"max_tokens: expected a whole number; got {tokens}")
    return Asked(Question(int(tokens), ratio, about, scope.get("root_path", "")), media)


def _number(
    given: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    text = given.get(name)
    value = float(text) if text and _NUMBER.fullmatch(text) else None
    if text is None:
        return default
    if value is None or not least <= value <= most:
        raise HttpProblem(400, f"{name}: expected {least:,} to {most:,}; got {shown(text)}")
    return value


def _surveyed(snapshot: Snapshot) -> Survey:
    survey = Survey(snapshot)
    _run(survey.steps())
    return survey


def _found(survey: Survey, about: str) -> tuple[list[Target], Joins]:
    search = Search(survey, about)
    _run(search.steps())
    targets = search.result()
    joins = Joins(survey, targets)
    _run(joins.steps())
    return targets, joins


def _run(steps: Iterator[None]) -> None:
    for _ in sliced(steps, SLICE_SECONDS):
        time.sleep(REST_SECONDS)
