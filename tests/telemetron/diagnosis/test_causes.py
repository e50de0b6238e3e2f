"""Causes: symptoms as ids, with the nodes that they provide and depend on."""

from datetime import UTC, datetime, timedelta

from telemetron.diagnosis.causes import SLACK, Case, Id, roots
from tests.telemetron.diagnosis.system import result

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def case(
    provides: str = "",
    depends: str = "",
    *,
    entity: str = "",
    after: timedelta | None = None,
    weight: int = 0,
) -> Case:
    """Return a case; each letter is a node, `after` is the time since noon."""
    since = None if after is None else NOON + after
    nodes = [frozenset((letter,) for letter in letters) for letters in (provides, depends)]
    return Case(("agents", entity), since, nodes[0], nodes[1], weight)


def found(**cases: Case) -> dict[str, str]:
    """Return the effects of each root, as letters."""
    ids: dict[Id, Case] = {(name,): one for name, one in cases.items()}
    return {
        root[0]: "".join(id[0] for id in effects) for root, effects in result(roots(ids)).items()
    }


def test_a_cause_has_its_direct_and_indirect_effects() -> None:
    assert found(a=case("x"), b=case("y", "x"), c=case("", "y")) == {"a": "bc"}


def test_independent_causes_are_two_roots() -> None:
    assert found(a=case("x"), b=case("y"), c=case("", "y")) == {"a": "", "b": "c"}


def test_an_effect_of_two_causes_is_listed_under_both() -> None:
    assert found(a=case("x"), b=case("y"), c=case("", "xy")) == {"a": "c", "b": "c"}


def test_the_heaviest_of_a_ring_is_its_root() -> None:
    ring = {"a": case("x", "y"), "b": case("y", "x", weight=1), "c": case("", "x")}
    assert found(**ring) == {"b": "ac"}


def test_the_first_of_a_ring_is_its_root_if_none_is_heavier() -> None:
    late, early = timedelta(minutes=2), timedelta(minutes=1)
    ring = {"a": case("x", "y", after=late), "b": case("y", "x", after=early)}
    assert found(**ring) == {"b": "a"}


def test_a_symptom_that_began_much_later_is_no_cause() -> None:
    effect = case("", "x", entity="e", after=timedelta())
    soon, late = SLACK, SLACK + timedelta(seconds=1)
    assert found(a=case("x", after=soon), b=effect) == {"a": "b"}
    assert found(a=case("x", after=late), b=effect) == {"a": "", "b": ""}
    assert found(a=case("x", entity="e", after=late), b=effect) == {"a": "b"}


def test_what_is_shown_stays_a_root_until_its_cause_is_raised() -> None:
    late = case("x")._replace(is_raised=False)
    assert found(a=late, b=case("", "x")) == {"a": "b"}
    shown = case("", "x")._replace(is_shown=True)
    assert found(a=late, b=shown) == {"a": "b", "b": ""}
    assert found(a=case("x"), b=shown) == {"a": "b"}


def test_a_raised_cause_explains_over_one_that_is_not_raised_yet() -> None:
    between = case("y", "x")._replace(is_raised=False)
    shown = case("", "y")._replace(is_shown=True)
    assert found(a=case("x"), b=between, c=shown) == {"a": "bc"}
