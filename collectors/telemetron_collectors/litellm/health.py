"""`/health`: the proxy calls every model and answers which are healthy. Optional, as it costs."""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from telemetron_collectors.litellm.evidence import Observation
from telemetron_collectors.litellm.metrics import FAILURES, Series, finite

_ERROR_CLASS = re.compile(r"litellm\.([A-Za-z_]\w{0,99})")


class Endpoint(Struct):
    """One deployment."""

    model_id: str | None = None
    error: Any = None
    exception_status: Any = None


class Health(Struct):
    """The answer."""

    healthy_endpoints: list[Endpoint] = []
    unhealthy_endpoints: list[Endpoint] = []

    def observations(self) -> Iterator[tuple[str, Observation]]:
        """Yield each deployment with its result; of an error only the class and the status."""
        for endpoint in self.healthy_endpoints:
            yield endpoint.model_id or "", Observation(succeeded=True)
        for endpoint in self.unhealthy_endpoints:
            named = _ERROR_CLASS.match(str(endpoint.error))
            status = finite(endpoint.exception_status)
            error_class, code = named and named[1], int(status) if status else None
            of = endpoint.model_id or ""
            yield of, Observation(failure=Series(FAILURES, of, error_class, code))
