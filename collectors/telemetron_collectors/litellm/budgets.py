"""Remaining budgets of providers, and of keys and teams if the proxy has a database.

Pure parsers; all raise msgspec's errors.
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
    """A key or a team, with its budget and its models."""

    models: list[str] | None = None
    team_id: str | None = None
    max_budget: Any = None
    spend: Any = None

    def left(self) -> float | None:
        """Return the rest of the budget, or None if there is no budget."""
        return left(self.max_budget, self.spend)


class Keys(Struct):
    """The answer of `/key/list?return_full_object=true`."""

    keys: list[Holder] = []
    total_pages: int = 1


class Teams(Struct):
    """The answer of `/v2/team/list`."""

    teams: list[Holder] = []
    total_pages: int = 1


class DaySums(Struct):
    """Sums of a day."""

    spend: Any = None


class Spent(Struct):
    """One model's day."""

    metrics: DaySums


class Breakdown(Struct):
    """A day by model."""

    models: dict[str, Spent] = {}


class Day(Struct):
    """One day."""

    breakdown: Breakdown = msgspec.field(default_factory=Breakdown)


class Paging(Struct):
    """The number of pages."""

    total_pages: int = 1


class DailyActivity(Struct):
    """The answer of `/user/daily/activity`."""

    results: list[Day] = []
    metadata: Paging = msgspec.field(default_factory=Paging)

    @property
    def total_pages(self) -> int:
        return self.metadata.total_pages


class Database(NamedTuple):
    """Budgets and spend from the database endpoints."""

    left: dict[str, float]
    """By the model's name."""
    spent: dict[str, float]
    """Today (UTC), by the name of the upstream model, with or without its provider."""


class Readiness(Struct):
    """The answer of `/health/readiness`, and of its `/details` in newer versions."""

    db: Any = None
    cache: Any = UNSET
    """null: the proxy has no cache."""


def left(limit: object, spend: object) -> float | None:
    """Return the rest, at least 0, or None if the limit or the spend is not known."""
    most, spent = finite(limit), finite(spend)
    return None if most is None or spent is None else max(0.0, round(most - spent, 9))


def parse_budgets(body: bytes) -> dict[str, float]:
    """Return the rest of each provider's budget."""
    providers = msgspec.json.decode(body, type=ProviderBudgets).providers
    found = {name: left(budget.budget_limit, budget.spend) for name, budget in providers.items()}
    return {name: money for name, money in found.items() if money is not None}


def left_by_model(
    teams: Sequence[Holder] | None, keys: Sequence[Holder] | None
) -> dict[str, float]:
    """Sum the remaining budgets of the teams and keys that name a model, by model.

    A key of a team with a budget spends the team's budget, so only the team counts. A team or key
    that names no model may call all of them and counts for none. None means that they could not be
    read: without the keys no sum is known; without the teams, keys of a team are left out.
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
    """Return the spend of each upstream model."""
    sums: defaultdict[str, float] = defaultdict(float)
    for day in days:
        for model, spent in day.breakdown.models.items():
            sums[model] += finite(spent.metrics.spend) or 0.0
    return dict(sums)
