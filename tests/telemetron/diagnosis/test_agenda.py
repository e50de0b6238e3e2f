"""The agenda: each is taken once, at the time that was set last."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from telemetron.diagnosis.agenda import Agenda

TIMES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9) | st.just(inf)), max_size=300)


@given(TIMES, st.integers(0, 9))
def test_each_is_taken_at_the_time_that_was_set_last(
    times: list[tuple[int, float]], now: int
) -> None:
    agenda: Agenda[int] = Agenda()
    known: dict[int, float] = {}
    for one, at in times:
        agenda.set(one, at)
        known[one] = at
    left = {one: at for one, at in known.items() if at != inf}
    assert agenda.next == min(left.values(), default=inf)
    due = [
        one for one, at in sorted(left.items(), key=lambda each: (each[1], each[0])) if at <= now
    ]
    assert agenda.take(now) == due
    assert agenda.take(now) == []
    assert agenda.next == min((at for at in left.values() if at > now), default=inf)


def test_a_time_that_changes_all_the_time_takes_no_memory() -> None:
    agenda: Agenda[str] = Agenda()
    for at in range(10_000):
        agenda.set("one", at)
        agenda.set("other", 5)
    assert agenda.take(9_998) == ["other"]
    assert agenda.take(9_999) == ["one"]
