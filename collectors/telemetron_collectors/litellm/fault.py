"""Blame a failed call on the caller, or on the deployment and its provider."""

from telemetron_collectors.litellm.metrics import Series

# LiteLLM's router cools a deployment down for these statuses, and for none of the other 4xx
# (`_is_cooldown_required` in its cooldown_handlers.py).
_DEPLOYMENTS = {401, 402, 404, 408, 429}
# Without a deployment 401, 402 and 404 concern the caller's key, budget and model name.
_ROUTERS = {408, 429}
# Limits of a key, a user or a team. The proxy answers some of them with 429 too.
_CALLERS_LIMITS = {"BudgetExceededError", "HTTPException", "ProxyRateLimitError"}
# For metrics without a status: LiteLLM's classes of the 4xx that are the caller's fault.
_CALLERS = {
    *_CALLERS_LIMITS,
    "BadRequestError",
    "ContentPolicyViolationError",
    "ContextWindowExceededError",
    "ImageFetchError",
    "InvalidRequestError",
    "ModelAccessDeniedProxyException",
    "PermissionDeniedError",
    "RejectedRequestError",
    "UnprocessableEntityError",
    "UnsupportedParamsError",
}


def is_callers(error: Series) -> bool:
    """Return whether a call that reached a deployment failed because of its caller."""
    return _is_callers(error.error_class, error.status_code, _DEPLOYMENTS)


def is_refused_caller(error_class: str | None, status_code: int | None) -> bool:
    """Return whether the proxy refused a call because of its caller, and would serve others."""
    if _bare(error_class) in _CALLERS_LIMITS:
        return True
    return _is_callers(error_class, status_code, _ROUTERS)


def _is_callers(error_class: str | None, status_code: int | None, others: set[int]) -> bool:
    if status_code is None:
        return _bare(error_class) in _CALLERS
    return 400 <= status_code < 500 and status_code not in others


def _bare(error_class: str | None) -> str:
    """Return the class without its provider: BadRequestError of `Openai.BadRequestError`."""
    return (error_class or "").rpartition(".")[2]
