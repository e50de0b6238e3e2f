"""Tasks that finished, counted over restarts and ends of instances.

An instance counts its outcomes since its start. Their sum over the instances falls whenever one
restarts or goes, which Prometheus would take for a reset; this count only rises.
"""

from datetime import datetime
from operator import sub

from telemetron.document import Agent, Instance, Outcomes
from telemetron.store.rope import Rope

OUTCOMES = Outcomes.__struct_fields__
GONE = 16
"""Instances of an agent that are remembered after they went, in case they return."""


class Count:
    """The finished tasks of one agent."""

    def __init__(self) -> None:
        self.total = [0] * len(OUTCOMES)
        self._seen: dict[str, tuple[datetime | None, list[int]]] = {}

    def add(self, instance: Instance, outcomes: Outcomes) -> None:
        """Add the outcomes of an instance since it was last seen."""
        started_at, before = self._seen.pop(instance.id, (None, []))
        now = [getattr(outcomes, name) for name in OUTCOMES]
        new = list(map(sub, now, before))
        if not before or started_at != instance.started_at or min(new) < 0:
            new = now  # of a new life
        self.total = [old + more for old, more in zip(self.total, new, strict=True)]
        self._seen[instance.id] = instance.started_at, now

    def trim(self, instances: int) -> None:
        """Forget the instances that were not seen for longest."""
        while len(self._seen) > instances + GONE:
            del self._seen[next(iter(self._seen))]


class Finished:
    """The counts of all agents, by key."""

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    def count(self, agent: Agent) -> dict[str, float] | None:
        """Return the finished tasks by outcome; None if they are not reported.

        Call it once for each version of the agent. Also None if its instances are not all listed:
        the document lists others each time.
        """
        if agent.truncated and "instances" in agent.truncated:
            return None
        for instance in agent.instances:
            if instance.outcomes is not None:
                self._counts.setdefault(agent.key, Count()).add(instance, instance.outcomes)
        found = self._counts.get(agent.key)
        if found is None:
            return None
        found.trim(len(agent.instances))
        return dict(zip(OUTCOMES, found.total, strict=True))

    def forget(self, agents: Rope) -> None:
        """Forget agents that went, once they are so many that it matters."""
        if len(self._counts) > len(agents) + GONE:
            self._counts = {
                key: self._counts[key] for key in agents.every_key() if key in self._counts
            }
