"""Whose fault a failed call is: the caller's, or that of the deployment and its provider."""

from telemetron_collectors.litellm.metrics import Series

# LiteLLM's router cools a deployment down for these statuses, and for none of the other 4xx
# (`_is_cooldown_required` in its cooldown_handlers.py).
_DEPLOYMENTS = {401, 402, 404, 408, 429}
# Without a deployment 401, 402 and 404 concern the caller's key, budget and model name.
_ROUTERS = {408, 429}
# Limits of a key, a user or a team. The proxy answers some of them with 429 too.
_CALLERS_LIMITS = {"BudgetExceededError", "HTTPException", "ProxyRateLimitError"}
# If the metrics have no status: LiteLLM's classes for the 4xx that are the caller's.
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
    """Whether a call that reached a deployment failed by its caller's fault."""
    return _is_callers(error.error_class, error.status_code, _DEPLOYMENTS)


def is_refused_caller(error_class: str | None, status_code: int | None) -> bool:
    """Whether a call was refused for what the caller asked, or may not: others are served."""
    if _bare(error_class) in _CALLERS_LIMITS:
        return True
    return _is_callers(error_class, status_code, _ROUTERS)


def _is_callers(error_class: str | None, status_code: int | None, others: set[int]) -> bool:
    if status_code is None:
        return _bare(error_class) in _CALLERS
    return 400 <= status_code < 500 and status_code not in others


def _bare(error_class: str | None) -> str:
    """The class without the provider before it: `Openai.BadRequestError`."""
    return (error_class or "").rpartition(".")[2]
