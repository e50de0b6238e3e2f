"""The scopes of a source: whether each is in sync, refused, or in trouble."""

import asyncio
from collections.abc import Iterable

from telemetron.collector import Output
from telemetron.document import Problem
from telemetron.poll import TroubleError
from telemetron_collectors.kubernetes.api.connection import RefusedError
from telemetron_collectors.kubernetes.api.informer import Informer
from telemetron_collectors.kubernetes.bounds import DEFAULTS, Bounds
from telemetron_collectors.kubernetes.cluster import Cluster


class WatchedScopes:
    """Confirms complete scopes, and reports problems of the others."""

    def __init__(self, cluster: Cluster, output: Output, bounds: Bounds = DEFAULTS) -> None:
        self._cluster = cluster
        self._output = output
        self._bounds = bounds
        self._informers: dict[str, Informer] = {}
        self._pending: set[str] = set()
        """Scopes that are neither listed nor refused."""
        self._silent: set[str] = set()
        """Scopes without any news yet, not even trouble."""
        self._malformed: dict[str, int] = {}
        """Synced scopes, and the number of their malformed objects."""
        self._is_late = False
        self._is_published = False
        self._ready = asyncio.Event()

    def add(self, informers: Iterable[Informer]) -> None:
        """Add scopes before their informers run."""
        self._informers = {one.scope: one for one in informers}
        self._pending = set(self._informers)
        self._silent = set(self._informers)

    async def ready(self) -> None:
        """Wait until each scope is listed or refused, or until it is late and one is listed."""
        timer = self._output.clock.call_later(self._bounds.first_seconds, self._be_late)
        try:
            await self._ready.wait()
        finally:
            timer.cancel()
        for scope in self._pending & self._silent:
            message = f"not listed within {self._bounds.first_seconds:g} s"
            self._add_problem(scope, "Timeout", message, certain=False)

    def confirm_all(self) -> None:
        """Confirm each synced scope after the first publication, and from then on at once."""
        self._is_published = True
        for scope, malformed in self._malformed.items():
            self.confirm(scope, malformed)

    def _be_late(self) -> None:
        self._is_late = True
        self._check_ready()

    def _check_ready(self) -> None:
        if not self._pending or (self._is_late and self._malformed):
            self._ready.set()

    # reports of the informers

    def synced(self, scope: str) -> None:
        """Note that all objects of a scope were listed."""
        informer = self._informers[scope]
        self._cluster.set_synced(informer.kind.name, informer.namespace)
        self._pending.discard(scope)
        self._malformed[scope] = 0
        self._check_ready()

    def confirm(self, scope: str, malformed: int) -> None:
        """Confirm a scope, with the problem that some of its objects are missing, if so."""
        self._malformed[scope] = malformed
        if not self._is_published:
            return
        if self._informers[scope].kind.name in self._cluster.left_out:
            message = f"more than {self._bounds.objects} objects; the rest is left out"
            self._add_problem(scope, "LimitReached", message)
        elif malformed:
            message = (
                f"objects that cannot be decoded: {malformed};"
                " each shows its last version, or is left out"
            )
            self._output.confirm(scope, reason="BadAnswer", message=message)
        else:
            self._output.confirm(scope)

    def refuse(self, scope: str, refusal: RefusedError) -> None:
        """Note that a scope cannot be listed.

        After a 403 null is the correct value, so the scope is confirmed, with a problem.
        """
        self._pending.discard(scope)
        self._check_ready()
        self._add_problem(scope, refusal.reason, refusal.message, certain=refusal.code == 403)

    def trouble(self, scope: str, trouble: TroubleError) -> None:
        """Report that a scope is no longer up to date."""
        self._silent.discard(scope)
        self._add_problem(scope, trouble.reason, trouble.message, certain=False)

    def _add_problem(self, scope: str, reason: str, message: str, *, certain: bool = True) -> None:
        """Report why a scope is incomplete, at the source and at the workloads that need it."""
        informer, now = self._informers[scope], self._output.clock.now()
        problem = Problem(reason, message, now)
        self._cluster.set_problem(informer.kind.name, informer.namespace, problem)
        if certain:
            self._output.confirm(scope, reason=reason, message=message)
        else:
            self._output.trouble(scope, reason, message)
