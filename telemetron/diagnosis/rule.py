"""Rules: each looks at one entity and yields the symptoms that it shows."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from telemetron.diagnosis.view import View

ENTRY_POINTS = "telemetron.rules"
"""The entry points by which a package brings rules; each is named as its rule."""

SEVERITIES = ("critical", "warning", "info")

Node = tuple[str, ...]
"""What may depend on something else, or explain it: `("queue", key)`, `("node", source, name)` …"""


class Place(Struct, frozen=True, gc=False):
    """One field of one entity: the item's fields are joined by `/`, as in `/system/changes`."""

    section: str
    key: str
    path: str


class Symptom(NamedTuple):
    """Something that one entity shows, and that is not well."""

    rule: str
    section: str
    key: str
    summary: str
    """One sentence with its numbers."""
    evidence: Sequence[Place]
    path: str | None = None
    """The item of the entity that has it; None: the entity itself."""
    kind: str | None = None
    name: str | None = None
    """What has it, if it is no entity: the symptoms of all entities that name it are one."""
    scope: str = ""
    """Where, if there may be several of that kind and name: the cluster of a node."""
    since: datetime | None = None
    """When it began, by evidence that does not change while it lasts; None: not known."""
    newest: datetime | None = None
    """The time of its newest evidence. If Telemetron sees it begin, that is when it began."""
    window_seconds: float = 0.0
    """How long it looks back: Telemetron must have looked for longer to have seen it begin."""
    provides: Sequence[Node] = ()
    """What it explains: symptoms that depend on one of these are its effects."""
    depends: Sequence[Node] = ()
    """What would explain it."""
    severity: str | None = None
    """Instead of the rule's."""
    basis: str = "observed"
    is_group: bool = False
    """It only gathers what several entities or items show: explained itself, it is not listed."""
    token: Any = None
    """Its hold starts again whenever this changes."""

    @property
    def packed(self) -> "Symptom":
        """The same with tuples for lists: the garbage collector does not look through these."""
        return self._replace(
            evidence=tuple(self.evidence),
            provides=tuple(self.provides),
            depends=tuple(self.depends),
        )

    @property
    def id(self) -> tuple[str, ...]:
        """What it is called while it lasts."""
        if self.kind is not None:
            return self.rule, self.kind, self.name or "", self.scope
        return self.rule, self.section, self.key, self.path or ""


class Rule(NamedTuple):
    """One kind of trouble: when it is one, what it means, and what to do."""

    name: str
    section: str
    """The section whose entities it looks at."""
    severity: str
    hold_seconds: float
    """How long a symptom must have lasted to be a finding."""
    clear_seconds: float
    """How long it must have been gone for the finding to end."""
    looks_at: str
    means: str
    action: str
    """What to do."""
    find: Callable[[Any, "View"], Iterator[Symptom]]
    asks: Sequence[str] = ()
    """Other sections that it would look into: a source of them that is out of sight is named."""
