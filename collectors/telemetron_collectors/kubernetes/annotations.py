"""Agents that annotations declare: `telemetron.dev/agent: NAME` and its companions."""

from msgspec import Struct

from telemetron_collectors.kubernetes.api.objects import Annotations


class Declaration(Struct, frozen=True, gc=False):
    """An agent, as the annotations of one object declare it."""

    name: str
    description: str | None = None
    max_parallel_invocations: int | None = None
    models: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    invalid: str | None = None
    """The annotation whose value is invalid."""


def declared(*candidates: Annotations | None) -> Declaration | None:
    """Return the declaration of the first candidate that names an agent."""
    for one in candidates:
        if one and one.agent and one.agent.strip():
            parallel = _positive(one.max_parallel)
            return Declaration(
                name=one.agent.strip(),
                description=one.description,
                max_parallel_invocations=parallel,
                models=_names(one.models),
                queues=_names(one.queues),
                invalid="max-parallel-invocations" if one.max_parallel and not parallel else None,
            )
    return None


def _names(listed: str | None) -> tuple[str, ...]:
    """Return the names of a comma-separated list: `b, a` is ("a", "b")."""
    names = {name.strip() for name in (listed or "").split(",")} - {""}
    return tuple(sorted(names))


def _positive(text: str | None) -> int | None:
    number = (text or "").strip()
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    return int(number) or None if is_number else None
