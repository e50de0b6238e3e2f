"""Calls for models that no deployment serves."""

import re

from telemetron.collector import Output
from telemetron_collectors.litellm.metrics import REFUSED, UNROUTED, Series
from telemetron_collectors.litellm.models import Names

REMEMBERED_SECONDS = 300.0
MAX_REMEMBERED = 256
# A caller wrote the name: show it only if it looks like the name of a model.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+*-]{0,99}")


class Unserved:
    """The model names of recent calls that reached no deployment."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._clock = output.clock
        self._asked_at: dict[str, float] = {}

    def note(self, rises: dict[Series, float], served: Names) -> None:
        """Add the counters that rose since the last poll."""
        self._count(rises, served)
        now = self._clock.monotonic()
        for series in rises:
            if series.kind in (REFUSED, UNROUTED):
                self._asked_at.pop(series.of, None)
                self._asked_at[series.of] = now
        late = [name for name, at in self._asked_at.items() if now - at >= REMEMBERED_SECONDS]
        for name in late:
            del self._asked_at[name]
        while len(self._asked_at) > MAX_REMEMBERED:
            del self._asked_at[next(iter(self._asked_at))]

    def _count(self, rises: dict[Series, float], served: Names) -> None:
        """Count the calls for `/metrics`; LiteLLM may count a refusal among the requests too."""
        calls = {
            kind: sum(
                rise
                for series, rise in rises.items()
                if series.kind == kind and served.group(series.of) is None
            )
            for kind in (REFUSED, UNROUTED)
        }
        if number := round(max(calls.values())):
            self._output.count("calls_of_unknown_models", number)

    def names(self, served: Names) -> list[str]:
        """Return the names that no deployment serves, sorted."""
        unserved = [name for name in self._asked_at if served.group(name) is None]
        return sorted({name if _NAME.fullmatch(name) else "(an unusual name)" for name in unserved})
