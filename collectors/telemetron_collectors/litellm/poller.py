"""The poll loop: each endpoint at its interval, and one probe at a time during an outage."""

from collections.abc import Awaitable, Callable, Iterable

from loguru import logger

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.fetch import NoAnswerError
from telemetron.poll import TroubleError
from telemetron_collectors.litellm.client import Client, RefusalError, forbidden

KEY_CHECK_SECONDS = 1.0


def slow_backoff() -> Backoff:
    """Return a backoff for refused keys, up to 5 minutes: the proxy logs each refusal."""
    return Backoff(first=10.0, cap=200.0)


class Poll:
    """One endpoint, polled every `every` seconds."""

    def __init__(self, name: str, every: float, once: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.every = every
        self.once = once
        self.due = 0.0
        self.backoff = Backoff()
        self.slow_backoff = slow_backoff()


class Poller:
    """Runs one poll after the other; while the proxy does not answer, it only probes.

    A poll's scope has its name. The empty scope is the proxy as a whole, and the key.
    """

    def __init__(self, client: Client, output: Output, alive_every: float) -> None:
        self._client = client
        self._output = output
        self._clock = output.clock
        self._alive = Poll("", alive_every, self._request_alive)
        self._polls = [self._alive]
        self._scopes = {""}
        self._notes: dict[str, TroubleError] = {}
        self._failing: set[str] = set()

    async def run(self, polls: Iterable[Poll]) -> None:
        """Run the due polls in the given order, until cancelled."""
        self._polls = [*polls, self._alive]
        while True:
            try:
                if await self._client.key.refresh():
                    self._make_all_due()
                for poll in self._polls:
                    if poll.due <= self._clock.monotonic():
                        await self._attempt(poll)
            except TroubleError as trouble:  # the proxy as a whole, or the key
                await self._outage(trouble)
                self._make_all_due()
                continue
            due = min(poll.due for poll in self._polls)
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))

    def expect(self, scopes: Iterable[str], there: bool = True) -> None:
        """Add scopes, or remove them: not every proxy has budgets or a database."""
        wanted = self._scopes.union(scopes) if there else self._scopes.difference(scopes)
        if wanted != self._scopes:
            self._scopes = wanted
            self._output.expect(sorted(wanted))

    def note(self, name: str, trouble: TroubleError | None) -> None:
        """Note a problem of a poll without a scope; None ends it."""
        if trouble:
            self._log(name, trouble)
            self._notes[name] = trouble
        else:
            self._recovered(name)

    def confirm(self, scope: str, known: TroubleError | None = None) -> None:
        """Confirm the scope, with a known problem if there is one."""
        if known:
            self._output.confirm(scope, reason=known.reason, message=known.message)
        else:
            self._output.confirm(scope)

    def first_note(self) -> TroubleError | None:
        """Return a problem of a poll without a scope; another scope has to show it."""
        return next(iter(self._notes.values()), None)

    def _make_all_due(self) -> None:
        for poll in self._polls:
            poll.due = 0.0

    async def _attempt(self, poll: Poll) -> None:
        """Run one poll; raise TroubleError if the proxy as a whole fails, or the key."""
        begun = self._clock.monotonic()
        try:
            await poll.once()
        except TroubleError as trouble:
            self._failed(poll, await self.narrow(trouble))
        else:
            poll.backoff.reset()
            poll.slow_backoff.reset()
            # From start to start; a slow proxy gets at least half an interval of rest.
            poll.due = max(begun + poll.every, self._clock.monotonic() + poll.every / 2)
            self._recovered(poll.name)
            self._answered()

    async def narrow(self, trouble: TroubleError) -> TroubleError:
        """Return the problem of one endpoint; raise TroubleError if it is the proxy's or the key's.

        LiteLLM also answers 401 to a valid key if only an administrator may read the path.
        """
        if isinstance(trouble, NoAnswerError):
            await self._request_alive()
        elif isinstance(trouble, RefusalError) and (trouble.ambiguous or is_about_key(trouble)):
            await self._check_key()
        else:
            return trouble
        self._answered()
        if isinstance(trouble, RefusalError) and trouble.status == 401:
            return forbidden(trouble.path, trouble.status)
        return trouble

    async def _outage(self, trouble: TroubleError) -> None:
        """Probe until the proxy answers and accepts the key."""
        self._log("", trouble)
        backoff, slow = Backoff(), slow_backoff()
        while True:
            self._output.trouble("", trouble.reason, trouble.message)
            if is_about_key(trouble):
                await self._wait_for_key(slow.next())
            else:
                await self._clock.sleep(backoff.next(trouble.retry_after))
            try:
                return await self._probe(trouble)
            except TroubleError as again:
                trouble = again

    async def _probe(self, trouble: TroubleError) -> None:
        await self._client.key.refresh()
        await self._request_alive()
        if trouble.reason == "Unauthorized":
            await self._check_key()

    async def _wait_for_key(self, seconds: float) -> None:
        """Wait, at most until the key changes."""
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(left, KEY_CHECK_SECONDS))
            try:
                if await self._client.key.refresh():
                    return
            except TroubleError:
                continue

    async def _request_alive(self) -> None:
        await self._client.get(
            "/health/liveliness", timeout=self._client.limits.alive_timeout_seconds
        )

    async def _check_key(self) -> None:
        try:
            await self._client.get("/v1/models")
        except RefusalError as refusal:
            if not refusal.ambiguous:
                raise
            # Without a database the answer to a missing key is 500, as for a passing fault.
            message = "the proxy answers 500 to every request with the key"
            raise RefusalError("Unauthorized", message, status=500, ambiguous=True) from None

    def _answered(self) -> None:
        """Confirm the proxy: any answer shows that it runs."""
        self._output.confirm()
        self._recovered("")
        self._alive.due = self._clock.monotonic() + self._alive.every

    def _failed(self, poll: Poll, trouble: TroubleError) -> None:
        if poll.name in self._scopes:
            self._log(poll.name, trouble)
            self._output.trouble(poll.name, trouble.reason, trouble.message)
        else:
            self.note(poll.name, trouble)
        if is_about_key(trouble):
            wait = poll.slow_backoff.next()
        else:
            wait = poll.backoff.next(trouble.retry_after)
        poll.due = self._clock.monotonic() + wait

    def _recovered(self, name: str) -> None:
        self._failing.discard(name)
        self._notes.pop(name, None)

    def _log(self, name: str, trouble: TroubleError) -> None:
        """Log only the first problem until all polls succeed again."""
        if not self._failing:
            source = self._output.source
            logger.warning("source {}: {}: {}", source, trouble.reason, trouble.message)
        self._failing.add(name)


def is_about_key(trouble: TroubleError) -> bool:
    """Return whether only another key, or another permission of it, can end the refusal."""
    ambiguous = isinstance(trouble, RefusalError) and trouble.ambiguous
    return trouble.reason in ("Unauthorized", "Forbidden") and not ambiguous
