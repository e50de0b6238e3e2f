"""The loop of all collectors that poll."""

import asyncio
from collections.abc import Awaitable, Callable

from telemetron.backoff import Backoff
from telemetron.collector import Output


class TroubleError(Exception):
    """A failure of the observed system; `reason` is one of `telemetron.reason`.

    An empty `scope` is the scope of the poll.
    """

    def __init__(
        self, reason: str, message: str, *, scope: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.scope = scope
        self.retry_after = retry_after


async def poll(
    output: Output,
    once: Callable[[], Awaitable[None]],
    *,
    interval_seconds: float,
    timeout_seconds: float = 10.0,
    scope: str = "",
) -> None:
    """Call `once` every `interval_seconds`, for ever; `once` must confirm what it observed.

    Report a `TroubleError`, an OSError or a timeout as trouble of the scope and retry with backoff.
    Any other exception is a bug and is raised.
    """
    backoff = Backoff()
    while True:
        trouble = await _attempt(once, timeout_seconds)
        if trouble is None:
            backoff.reset()
            await output.clock.sleep(interval_seconds)
        else:
            output.trouble(trouble.scope or scope, trouble.reason, trouble.message)
            await output.clock.sleep(backoff.next(trouble.retry_after))


async def _attempt(once: Callable[[], Awaitable[None]], timeout: float) -> TroubleError | None:
    try:
        async with asyncio.timeout(timeout):
            await once()
    except TroubleError as trouble:
        return trouble
    except TimeoutError:
        return TroubleError("Timeout", f"no answer within {timeout:g} s")
    except OSError as error:
        return TroubleError("Unreachable", type(error).__name__)
    return None
