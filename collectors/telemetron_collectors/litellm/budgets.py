"""What is left to spend: providers' budgets, and those of keys and teams where there is a database.

Pure parsers; all raise what msgspec raises.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct

from telemetron_collectors.litellm.metrics import finite


class Budget(Struct):
    """The budget of one provider."""

    budget_limit: Any = None
    spend: Any = None


class ProviderBudgets(Struct):
    """The answer of `/provider/budgets`."""

    providers: dict[str, Budget] = {}


class Holder(Struct):
    """A key or a team: who may spend, how much, on which models."""

    models: list[str] | None = None
    team_id: str | None = None
    max_budget: Any = None
    spend: Any = None

    def left(self) -> float | None:
        """None: it has no budget."""
        return left(self.max_budget, self.spend)


class Keys(Struct):
    """The answer of `/key/list?return_full_object=true`."""

    keys: list[Holder] = []
    total_pages: int = 1


class Teams(Struct):
    """The answer of `/v2/team/list`."""

    teams: list[Holder] = []
    total_pages: int = 1


class Metrics(Struct):
    """Sums of a day."""

    spend: Any = None


class Spent(Struct):
    """One model's day."""

    metrics: Metrics


class Breakdown(Struct):
    """A day by model."""

    models: dict[str, Spent] = {}


class Day(Struct):
    """One day."""

    breakdown: Breakdown = msgspec.field(default_factory=Breakdown)


class Paging(Struct):
    """How much more there is."""

    total_pages: int = 1


class Activity(Struct):
    """The answer of `/user/daily/activity`."""

    results: list[Day] = []
    metadata: Paging = msgspec.field(default_factory=Paging)

    @property
    def total_pages(self) -> int:
        return self.metadata.total_pages


class Database(NamedTuple):
    """What the database endpoints say."""

    left: dict[str, float]
    """By the model's name."""
    spent: dict[str, float]
    """Today (UTC), by the name of the upstream model, with or without its provider."""


class Readiness(Struct):
    """The answer of `/health/readiness`, and of its `/details` in newer versions."""

    db: Any = None
    cache: Any = UNSET
    """null: there is none."""


def left(limit: object, spend: object) -> float | None:
    """What is left, 0 at the least; None: there is no limit, or nobody knows what was spent."""
    most, spent = finite(limit), finite(spend)
    return None if most is None or spent is None else max(0.0, round(most - spent, 9))


def parse_budgets(body: bytes) -> dict[str, float]:
    """What is left, by provider."""
    providers = msgspec.json.decode(body, type=ProviderBudgets).providers
    found = {name: left(budget.budget_limit, budget.spend) for name, budget in providers.items()}
    return {name: money for name, money in found.items() if money is not None}


def left_by_model(
    teams: Sequence[Holder] | None, keys: Sequence[Holder] | None
) -> dict[str, float]:
    """The sum of what is left to the teams that name a model, and to the keys that do.

    A key of a team that has a budget spends the team's. Who names no model may call all of them,
    and says nothing of any. None: they could not be read. Without the keys no sum is known;
    without the teams, keys that belong to one are left out.
    """
    if keys is None:
        return {}
    with_budget = [team for team in teams or () if team.left() is not None]
    known = {team.team_id for team in with_budget}
    own = [
        key for key in keys if (key.team_id is None if teams is None else key.team_id not in known)
    ]
    sums: defaultdict[str, float] = defaultdict(float)
    for holder in [*with_budget, *own]:
        money = holder.left()
        for model in set(holder.models or ()) if money is not None else ():
            sums[model] += money or 0.0
    return {model: round(money, 9) for model, money in sums.items()}


def spent_by_model(days: Iterable[Day]) -> dict[str, float]:
    """What was spent, by upstream model."""
    sums: defaultdict[str, float] = defaultdict(float)
    for day in days:
        for model, spent in day.breakdown.models.items():
            sums[model] += finite(spent.metrics.spend) or 0.0
    return dict(sums)
