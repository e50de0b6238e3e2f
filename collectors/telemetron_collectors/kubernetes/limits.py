"""Limits: how much CPU and memory a pod may use as a whole. Pure functions.

The sum is that of `PodLimits` in k8s.io/component-helpers/resource. A pod without a limit is one
whose cgroup the kubelet leaves unlimited (`ResourceConfigForPod`): a container, or an init
container, has no limit or 0, and the pod itself sets none.

While a pod is resized in place, the limits in force are those its status reports. The scheduler
reserves the larger of both, which is not what the kernel enforces.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache

from msgspec import Struct

from telemetron.document import Limits
from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.api.quantity import (
    EXACT,
    Quantity,
    canonical,
    is_binary,
    parse,
)

UNREPORTED = objects.PodStatus()
UNSET = objects.Limits()
# The API machinery caps every quantity so.
MOST = Decimal(2**63 - 1)


class Amount(Struct, frozen=True):
    """An amount of one resource, and the suffixes it is written with."""

    value: Decimal
    is_binary: bool = False

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum, written like the first that is not 0."""
        is_binary = self.is_binary if self.value else other.is_binary
        return Amount(EXACT.add(self.value, other.value), is_binary)


NOTHING = Amount(Decimal(0))


def limits_of(spec: objects.PodSpec, status: objects.PodStatus = UNREPORTED) -> Limits:
    """Return the limits in force of a pod, or those its template asks for."""
    reported = dict(_reported(status))
    return _effective(
        tuple([_in_force(one, reported) for one in spec.containers or ()]),
        tuple(
            [
                (one.restart_policy == "Always", _in_force(one, reported))
                for one in spec.init_containers or ()
            ]
        ),
        _declared(spec.resources),
        _declared(status.resources),
        spec.overhead or UNSET,
    )


def common(limits: Sequence[Limits]) -> Limits:
    """Return the limits that all of these have, null where they differ."""
    cpu = {one.cpu for one in limits}
    memory = {one.memory for one in limits}
    return Limits(
        cpu=cpu.pop() if len(cpu) == 1 else None,
        memory=memory.pop() if len(memory) == 1 else None,
    )


def _reported(status: objects.PodStatus) -> Iterator[tuple[str, objects.Limits]]:
    for one in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        if one.resources and one.resources.limits:
            yield one.name, one.resources.limits


def _in_force(one: objects.Container, reported: dict[str, objects.Limits]) -> objects.Limits:
    return reported.get(one.name) or _declared(one.resources)


def _declared(resources: objects.Resources | None) -> objects.Limits:
    return resources.limits or UNSET if resources else UNSET


@lru_cache(maxsize=4096)  # many pods, few limits
def _effective(
    containers: tuple[objects.Limits, ...],
    inits: tuple[tuple[bool, objects.Limits], ...],
    pod: objects.Limits,
    resized: objects.Limits,
    overhead: objects.Limits,
) -> Limits:
    def limit(resource: str) -> str | None:
        def read(limits: objects.Limits) -> Amount | None:
            return _amount(getattr(limits, resource))

        if getattr(pod, resource) is not None:
            found = read(resized) or read(pod)
        else:
            found = _aggregate(
                [read(one) for one in containers],
                [(is_sidecar, read(one)) for is_sidecar, one in inits],
            )
        if found is None:
            return None
        found += read(overhead) or NOTHING
        return canonical(found.value, binary=found.is_binary)

    return Limits(cpu=limit("cpu"), memory=limit("memory"))


def _amount(quantity: Quantity | None) -> Amount | None:
    """Return a limit; None for no limit, which 0 means too."""
    try:
        value = parse(quantity or 0)
    except ValueError:
        return None
    return Amount(min(value, MOST), is_binary(quantity or 0)) if value else None


def _aggregate(
    containers: Sequence[Amount | None], inits: Sequence[tuple[bool, Amount | None]]
) -> Amount | None:
    """Return what all need together, or one init container beside the sidecars before it."""
    total = peak = sidecars = NOTHING
    for amount in containers:
        if amount is None:
            return None
        total += amount
    for is_sidecar, amount in inits:
        if amount is None:
            return None
        if is_sidecar:
            sidecars += amount
        peak = max(peak, sidecars if is_sidecar else amount + sidecars, key=_value)
    return max(total + sidecars, peak, key=_value) if containers else None


def _value(amount: Amount) -> Decimal:
    return amount.value
