"""Scenarios: functions that play an incident in a healthy world, and what is true of it.

The docstring of the function has the story. Beside it are, as data:

severity  `critical`, `warning`, `info`, or `none` for a decoy, of which nothing may be raised
roots     the causes, several if the incidents are independent
accepted  what may be named instead of a root: it cannot be distinguished, or both are true
effects   what suffers and is no cause
beside    what may be raised beside the roots, as no field of the document connects the two
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from string import Template
from typing import NamedTuple

from tests.real.incidents.cluster import NAMESPACE
from tests.real.incidents.world import World

SHOWN_SECONDS = 75.0
"""The document has so long to show what was played."""


class Ref(NamedTuple):
    """An entity, or one item of it: a pod, an instance, a task, a node.

    `$name` in the item stands for the fact of the world.
    """

    section: str
    key: str
    item: str | None = None

    def resolved(self, facts: dict[str, str]) -> "Ref":
        """Return it with the facts filled in."""
        item = self.item and Template(self.item).substitute(facts)
        return Ref(self.section, Template(self.key).substitute(facts), item)


class Scenario(NamedTuple):
    """One incident, or something that only looks like one."""

    name: str
    story: str
    play: Callable[[World], Awaitable[None]]
    severity: str
    roots: tuple[Ref, ...]
    accepted: tuple[Ref, ...]
    effects: tuple[Ref, ...]
    beside: tuple[Ref, ...]
    setup: Callable[[World], None] | None
    """Shapes the world before it starts."""
    end: Callable[[World], None] | None = None
    """Mends the cause, so that everything that was told of it is resolved."""

    @property
    def is_alarm(self) -> bool:
        """Whether something has to be raised."""
        return self.severity in ("critical", "warning")

    def resolved(self, facts: dict[str, str]) -> "Scenario":
        """Return it with the facts filled in."""
        known = {
            name: tuple(ref.resolved(facts) for ref in getattr(self, name))
            for name in ("roots", "accepted", "effects", "beside")
        }
        return self._replace(**known)


SCENARIOS: dict[str, Scenario] = {}
Play = Callable[[World], Awaitable[None]]


def scenario(
    severity: str,
    *,
    roots: Sequence[Ref] = (),
    accepted: Sequence[Ref] = (),
    effects: Sequence[Ref] = (),
    beside: Sequence[Ref] = (),
    setup: Callable[[World], None] | None = None,
    end: Callable[[World], None] | None = None,
) -> Callable[[Play], Play]:
    """Make a scenario of a function; it takes the function's name."""

    def add(play: Play) -> Play:
        refs = tuple(roots), tuple(accepted), tuple(effects), tuple(beside)
        name, story = play.__name__, inspect.getdoc(play) or ""
        SCENARIOS[name] = Scenario(name, story, play, severity, *refs, setup, end)
        return play

    return add


def agent(name: str, item: str | None = None) -> Ref:
    """An agent."""
    return Ref("agents", f"{NAMESPACE}/{name}", item)


def queue(topic: str, group: str, item: str | None = None) -> Ref:
    """A queue, as a group has it."""
    return Ref("queues", f"kafka/{topic}/{group}", item)


def workload(name: str, item: str | None = None) -> Ref:
    """A Deployment."""
    return Ref("workload", f"kubernetes/{NAMESPACE}/Deployment/{name}", item)


def model(id: str) -> Ref:
    """A deployment of a model."""
    return Ref("litellm", f"litellm/{id}")


def source(key: str) -> Ref:
    """A source."""
    return Ref("sources", key)
