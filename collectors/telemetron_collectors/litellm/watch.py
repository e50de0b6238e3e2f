"""When the proxy is asked what, and what is done while it does not answer."""

import logging
from collections.abc import Awaitable, Callable, Iterable

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.litellm.client import Client, NoAnswerError, RefusalError, forbidden

logger = logging.getLogger(__name__)

ALIVE_TIMEOUT_SECONDS = 5.0
KEY_LOOK_SECONDS = 1.0


def gentle() -> Backoff:
    """For wrong calls, which leave rows in the proxy's log: 5 minutes at most, jitter included."""
    return Backoff(first=10.0, cap=200.0)


class Look:
    """One thing that is asked again and again, every so many seconds."""

    def __init__(self, name: str, every: float, once: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.every = every
        self.once = once
        self.due = 0.0
        self.backoff = Backoff()
        self.gently = gentle()


class Watch:
    """Asks one thing after the other. While nothing answers, one probe at a time goes out.

    The scope of a look has its name; the empty one is the proxy as a whole, and the key.
    """

    def __init__(self, client: Client, output: Output, alive_every: float) -> None:
        self._client = client
        self._output = output
        self._clock = output.clock
        self._alive = Look("", alive_every, self._ask_alive)
        self._looks = [self._alive]
        self._scopes = {""}
        self._notes: dict[str, TroubleError] = {}
        self._failing: set[str] = set()

    async def run(self, looks: Iterable[Look]) -> None:
        """Until cancelled; in the order of the looks."""
        self._looks = [*looks, self._alive]
        while True:
            try:
                if await self._client.key.refresh():
                    self._make_all_due()
                for look in self._looks:
                    if look.due <= self._clock.monotonic():
                        await self._attempt(look)
            except TroubleError as trouble:  # with the proxy or the key as a whole
                await self._outage(trouble)
                self._make_all_due()
                continue
            due = min(look.due for look in self._looks)
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))

    def has_scopes(self, scopes: Iterable[str], there: bool = True) -> None:
        """These there are, or not: some looks have nothing to see at some proxies."""
        wanted = self._scopes.union(scopes) if there else self._scopes.difference(scopes)
        if wanted != self._scopes:
            self._scopes = wanted
            self._output.expect(sorted(wanted))

    def note(self, name: str, trouble: TroubleError | None) -> None:
        """Trouble with what has no scope; None: it is over."""
        if trouble:
            self._log(name, trouble)
            self._notes[name] = trouble
        else:
            self._recovered(name)

    def confirm(self, scope: str, known: TroubleError | None = None) -> None:
        """What is shown of the scope is true; beside it stands what is known to be wrong."""
        if known:
            self._output.confirm(scope, reason=known.reason, message=known.message)
        else:
            self._output.confirm(scope)

    def first_note(self) -> TroubleError | None:
        """The trouble of one that has no scope, to be told by one that has."""
        return next(iter(self._notes.values()), None)

    def _make_all_due(self) -> None:
        for look in self._looks:
            look.due = 0.0

    async def _attempt(self, look: Look) -> None:
        """Raises TroubleError where nothing else need be asked now."""
        begun = self._clock.monotonic()
        try:
            await look.once()
        except TroubleError as trouble:
            self._failed(look, await self.narrowed(trouble))
        else:
            look.backoff.reset()
            look.gently.reset()
            # From begin to begin; a proxy that is slow has half of the time for itself.
            look.due = max(begun + look.every, self._clock.monotonic() + look.every / 2)
            self._recovered(look.name)
            self._answered()

    async def narrowed(self, trouble: TroubleError) -> TroubleError:
        """What is wrong with this one thing; TroubleError: it is the proxy, or the key.

        LiteLLM answers a good key with 401 too, if only an administrator's may ask for the path.
        """
        if isinstance(trouble, NoAnswerError):
            await self._ask_alive()
        elif isinstance(trouble, RefusalError) and (trouble.odd or is_about_key(trouble)):
            await self._ask_whether_key_is_good()
        else:
            return trouble
        self._answered()
        if isinstance(trouble, RefusalError) and trouble.status == 401:
            return forbidden(trouble.path, trouble.status)
        return trouble

    async def _outage(self, trouble: TroubleError) -> None:
        """Until the proxy answers again, and takes the key."""
        self._log("", trouble)
        backoff, gently = Backoff(), gentle()
        while True:
            self._output.trouble("", trouble.reason, trouble.message)
            if is_about_key(trouble):
                await self._key_changes(gently.next())
            else:
                await self._clock.sleep(backoff.next(trouble.retry_after))
            try:
                return await self._probe(trouble)
            except TroubleError as again:
                trouble = again

    async def _probe(self, trouble: TroubleError) -> None:
        await self._client.key.refresh()
        await self._ask_alive()
        if trouble.reason == "Unauthorized":
            await self._ask_whether_key_is_good()

    async def _key_changes(self, seconds: float) -> None:
        """Wait, but not once the key has changed."""
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(left, KEY_LOOK_SECONDS))
            try:
                if await self._client.key.refresh():
                    return
            except TroubleError:
                continue

    async def _ask_alive(self) -> None:
        await self._client.get("/health/liveliness", timeout=ALIVE_TIMEOUT_SECONDS)

    async def _ask_whether_key_is_good(self) -> None:
        try:
            await self._client.get("/v1/models")
        except RefusalError as refusal:
            if not refusal.odd:
                raise
            # Without a database a missing key is a 500, and so is a fault that may pass soon.
            message = "the proxy answers every call that bears the key with a 500"
            raise RefusalError("Unauthorized", message, status=500, odd=True) from None

    def _answered(self) -> None:
        """Any answer is a sign of life."""
        self._output.confirm()
        self._recovered("")
        self._alive.due = self._clock.monotonic() + self._alive.every

    def _failed(self, look: Look, trouble: TroubleError) -> None:
        if look.name in self._scopes:
            self._log(look.name, trouble)
            self._output.trouble(look.name, trouble.reason, trouble.message)
        else:
            self.note(look.name, trouble)
        if is_about_key(trouble):
            wait = look.gently.next()
        else:
            wait = look.backoff.next(trouble.retry_after)
        look.due = self._clock.monotonic() + wait

    def _recovered(self, name: str) -> None:
        self._failing.discard(name)
        self._notes.pop(name, None)

    def _log(self, name: str, trouble: TroubleError) -> None:
        """Once, until all is well again."""
        if not self._failing:
            source = self._output.source
            logger.warning("source %s: %s: %s", source, trouble.reason, trouble.message)
        self._failing.add(name)


def is_about_key(trouble: TroubleError) -> bool:
    """A refusal that only another key, or another right of it, can end."""
    odd = isinstance(trouble, RefusalError) and trouble.odd
    return trouble.reason in ("Unauthorized", "Forbidden") and not odd
