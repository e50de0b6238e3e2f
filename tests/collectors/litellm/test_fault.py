"""Whose fault a failed call is."""

from telemetron_collectors.litellm.fault import is_callers, is_refused_caller
from telemetron_collectors.litellm.metrics import FAILURES, Series


def test_failures_are_blamed_on_caller_or_deployment() -> None:
    """With a deployment as LiteLLM's router decides whether to cool it down; see tests/real."""
    callers = {code for code in range(400, 600) if is_callers(Series(FAILURES, "a", "X", code))}
    assert callers == set(range(400, 500)) - {401, 402, 404, 408, 429}
    refused = {code for code in range(400, 600) if is_refused_caller("X", code)}
    assert refused == set(range(400, 500)) - {408, 429}
