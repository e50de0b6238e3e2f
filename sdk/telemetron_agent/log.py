"""One logger; `logging` is imported only for the first message."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")


def warn(message: str, *values: object) -> None:
    """Log a warning to the logger `telemetron_agent`; never raise, whatever its handlers do."""
    try:
        import logging

        logging.getLogger("telemetron_agent").warning(message, *values)
    except Exception:  # the host's handler or filter, or the interpreter is shutting down
        return


_logged: set[str] = set()


def warn_once(where: str, error: Exception) -> None:
    """Log the first fault of this place: only the exception's class, as its text may be secret."""
    if where not in _logged:
        _logged.add(where)
        text = str(error) if isinstance(error, ImportError) else ""
        warn("%s failed: %s", where, f"{type(error).__name__} {text}".rstrip())


def guarded(callback: Callable[..., Result]) -> Callable[..., Result | None]:
    """Wrap a callback: log its first exception and never raise into the framework."""

    @wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Result | None:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            warn_once(f"{callback.__module__}.{callback.__qualname__}", error)
            return None

    return call


def guarded_async(callback: Callable[..., None]) -> Callable[..., Any]:
    """Wrap a callback that the framework awaits; `callback` itself is not a coroutine."""

    @wraps(callback)
    async def call(*args: Any, **kwargs: Any) -> None:
        guarded(callback)(*args, **kwargs)

    return call
