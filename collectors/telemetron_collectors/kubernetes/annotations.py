"""Agents that are declared by annotations, `telemetron.dev/agent: NAME` and its companions."""

from msgspec import Struct

from telemetron_collectors.kubernetes.api.objects import Annotations


class Declaration(Struct, frozen=True, gc=False):
    """What the annotations of one object say of its agent."""

    name: str
    description: str | None = None
    max_parallel_invocations: int | None = None
    models: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    wrong: str | None = None
    """The annotation that cannot be understood."""


def declared(*candidates: Annotations | None) -> Declaration | None:
    """The first that names an agent is taken whole."""
    for one in candidates:
        if one and one.agent and one.agent.strip():
            parallel = _positive(one.max_parallel)
            return Declaration(
                name=one.agent.strip(),
                description=one.description,
                max_parallel_invocations=parallel,
                models=_names(one.models),
                queues=_names(one.queues),
                wrong="max-parallel-invocations" if one.max_parallel and not parallel else None,
            )
    return None


def _names(listed: str | None) -> tuple[str, ...]:
    """`a, b` is ("a", "b")."""
    names = {name.strip() for name in (listed or "").split(",")} - {""}
    return tuple(sorted(names))


def _positive(written: str | None) -> int | None:
    number = (written or "").strip()
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    return int(number) or None if is_number else None
