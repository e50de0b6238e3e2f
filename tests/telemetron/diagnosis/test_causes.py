"""Causes: symptoms as ids, with the nodes that they provide and depend on."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.diagnosis.causes import SLACK, Case, Causes, Id, roots
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
    nodes = [tuple((letter,) for letter in letters) for letters in (provides, depends)]
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


LETTERS = st.sampled_from([(letter,) for letter in "abcdefgh"])
NODES = st.lists(LETTERS, max_size=3, unique=True).map(tuple)
TIMES = st.sampled_from([None, NOON, NOON + timedelta(hours=1)])
CASES = st.builds(
    Case,
    st.sampled_from([("agents", "a"), ("agents", "b")]),
    TIMES,
    NODES,
    NODES,
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
)
IDS = st.sampled_from([(f"id-{number}",) for number in range(12)])
CHANGES = st.lists(st.lists(st.tuples(IDS, st.none() | CASES), max_size=6), max_size=8)


@settings(max_examples=60, deadline=None)
@given(CHANGES)
def test_what_is_found_after_each_change_is_what_is_found_of_the_whole(
    rounds: list[list[tuple[Id, Case | None]]],
) -> None:
    causes, cases = Causes(), dict[Id, Case]()
    for changes in rounds:
        for id, case in changes:
            causes.set(id, case)
            cases.pop(id, None)
            cases |= {id: case} if case else {}
        result(causes.update())
        assert unordered(causes.roots) == unordered(result(roots(cases)))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(IDS, CASES, max_size=9))
def test_a_root_is_what_nothing_explains_but_its_own_ring(cases: dict[Id, Case]) -> None:
    cases = {id: one._replace(is_shown=False) for id, one in cases.items()}
    found = unordered(result(roots(cases)))
    above = {id: explained_by(id, cases) for id in cases}
    rings = {id: {one for one in above[id] if id in above[one]} | {id} for id in cases}
    tops = {id for id in cases if above[id] <= rings[id]}
    assert {frozenset(rings[id]) for id in found} == {frozenset(rings[id]) for id in tops}
    assert len(found) == len({frozenset(rings[id]) for id in tops})
    for id, effects in found.items():
        assert effects == {one for one in cases if one != id and id in above[one]}


def unordered(found: dict[Id, list[Id]]) -> dict[Id, set[Id]]:
    return {id: set(effects) for id, effects in found.items()}


def explained_by(id: Id, cases: dict[Id, Case]) -> set[Id]:
    """All that explains a case, directly or not, by the definition."""
    found: set[Id] = set()
    while True:
        more = {
            one
            for below in {id, *found}
            for one in cases
            if one != below and explains(cases[one], cases[below])
        }
        if more <= found:
            return found
        found |= more


def explains(cause: Case, effect: Case) -> bool:
    times = cause.since, effect.since
    if cause.entity != effect.entity and times[0] and times[1] and times[0] > times[1] + SLACK:
        return False
    return not {*cause.provides}.isdisjoint(effect.depends)


def test_only_what_edges_join_with_a_change_is_looked_at_again() -> None:
    causes = Causes()
    for number in range(100):
        causes.set((f"cause-{number}",), case(provides=chr(number + 256)))
        causes.set((f"effect-{number}",), case(depends=chr(number + 256)))
    assert len(result(causes.update())) == 200
    causes.set(("effect-7",), case())
    assert result(causes.update()).keys() == {("cause-7",), ("effect-7",)}
    assert causes.roots["effect-7",] == causes.roots["cause-7",] == []


def test_a_long_chain_and_a_large_ring_are_found_in_steps_of_each_case() -> None:
    """So that none of them holds up the event loop."""
    last = chr(256 + 3_000)
    chain = {
        (f"{number}",): case(chr(257 + number), chr(256 + number), weight=number == 7)
        for number in range(3_000)
    }
    assert result(roots(chain)).keys() == {("0",)}
    ring = chain | {("0",): case(chr(257), last)}
    (found,) = result(roots(ring)).items()
    assert (found[0], len(found[1])) == (("7",), 2_999)
    assert sum(1 for _ in roots(ring)) > 3_000
