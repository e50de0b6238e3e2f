"""One logger; importing `logging` waits until there is something to say."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")


def warn(message: str, *values: object) -> None:
    """A warning to the logger `telemetron_agent`; whatever its handlers do, nothing is raised."""
    try:
        import logging

        logging.getLogger("telemetron_agent").warning(message, *values)
    except Exception:  # the host's handler or filter, or the interpreter is shutting down
        return


_said: set[str] = set()


def warn_once(where: str, error: Exception) -> None:
    """A fault of ours, or of what we were given, the first time: by its class, never its text."""
    if where not in _said:
        _said.add(where)
        text = str(error) if isinstance(error, ImportError) else ""
        warn("%s failed: %s", where, f"{type(error).__name__} {text}".rstrip())


def guarded(callback: Callable[..., Result]) -> Callable[..., Result | None]:
    """What a framework or a program calls: a fault in it is said once, and never the caller's."""

    @wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Result | None:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            warn_once(f"{callback.__module__}.{callback.__qualname__}", error)
            return None

    return call


def guarded_async(callback: Callable[..., None]) -> Callable[..., Any]:
    """The same where the framework awaits; `callback` itself has nothing to wait for."""

    @wraps(callback)
    async def call(*args: Any, **kwargs: Any) -> None:
        guarded(callback)(*args, **kwargs)

    return call
