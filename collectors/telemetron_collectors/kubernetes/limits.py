"""Limits: how much CPU and memory a pod may use as a whole. Pure functions.

The sum follows `PodLimits` in k8s.io/component-helpers/resource. A pod is unlimited if the kubelet
leaves its cgroup unlimited (`ResourceConfigForPod`): a container or an init container has no limit
or 0, and the pod itself sets none.

While a pod is resized in place, the kernel enforces the limits of the pod's status. The scheduler
reserves the larger of both.
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
UNSET = objects.ResourceList()
# The API machinery caps every quantity at this.
MOST = Decimal(2**63 - 1)


class Amount(Struct, frozen=True):
    """An amount of one resource, and the kind of suffix it was written with."""

    value: Decimal
    is_binary: bool = False

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum, with the kind of suffix of the first amount that is not 0."""
        is_binary = self.is_binary if self.value else other.is_binary
        return Amount(EXACT.add(self.value, other.value), is_binary)


NOTHING = Amount(Decimal(0))


def limits_of(spec: objects.PodSpec, status: objects.PodStatus = UNREPORTED) -> Limits:
    """Return the limits in force of a pod, or those of a template."""
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
    """Return the limits that all of these share; None if they differ."""
    cpu = {one.cpu for one in limits}
    memory = {one.memory for one in limits}
    return Limits(
        cpu=cpu.pop() if len(cpu) == 1 else None,
        memory=memory.pop() if len(memory) == 1 else None,
    )


def _reported(status: objects.PodStatus) -> Iterator[tuple[str, objects.ResourceList]]:
    for one in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        if one.resources and one.resources.limits:
            yield one.name, one.resources.limits


def _in_force(
    one: objects.Container, reported: dict[str, objects.ResourceList]
) -> objects.ResourceList:
    return reported.get(one.name) or _declared(one.resources)


def _declared(resources: objects.Resources | None) -> objects.ResourceList:
    return resources.limits or UNSET if resources else UNSET


@lru_cache(maxsize=4096)  # pods of a workload share their limits
def _effective(
    containers: tuple[objects.ResourceList, ...],
    inits: tuple[tuple[bool, objects.ResourceList], ...],
    pod: objects.ResourceList,
    resized: objects.ResourceList,
    overhead: objects.ResourceList,
) -> Limits:
    def limit(resource: str) -> str | None:
        def read(limits: objects.ResourceList) -> Amount | None:
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
    """Return a limit; None: unlimited, as 0 is too."""
    try:
        value = parse(quantity or 0)
    except ValueError:
        return None
    return Amount(min(value, MOST), is_binary(quantity or 0)) if value else None


def _aggregate(
    containers: Sequence[Amount | None], inits: Sequence[tuple[bool, Amount | None]]
) -> Amount | None:
    """Return the sum of all, or the peak of an init container and the sidecars before it."""
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
