import pytest

from telemetron.diagnosis.trend import MAX_ENTITIES, MAX_SAMPLES, Streaks, Trends

QUEUE = ("queues", "q")


def filled(*values: float) -> tuple[Trends, float]:
    """Return trends with a sample every 5 s, and the time of the last one."""
    trends = Trends()
    for number, value in enumerate(values):
        trends.add(QUEUE, number * 5.0, value)
    return trends, (len(values) - 1) * 5.0


@pytest.mark.parametrize(
    ("values", "rises"),
    [
        ([n * 10 for n in range(12)], True),
        ([1000 - n * 10 for n in range(12)], False),
        ([50] * 12, False),
        ([n / 2 for n in range(12)], False),
        ([1000 + n * 10 for n in range(12)], False),
        ([0, 100] * 6, False),
        ([0] * 4 + [200] * 4 + [150, 120, 90, 60], False),
        ([n * 10 for n in range(5)], False),
    ],
)
def test_a_backlog_rises_if_all_late_samples_are_well_above_all_early_ones(
    values: list[float], rises: bool
) -> None:
    trends, now = filled(*values)
    assert trends.rises(QUEUE, now) is rises


def test_an_unknown_entity_does_not_rise() -> None:
    assert not Trends().rises(QUEUE, 100.0)


def test_only_the_newest_sample_of_5_seconds_is_kept() -> None:
    trends = Trends()
    for at in range(12):
        ring = trends.add(QUEUE, float(at), float(at))
    assert [at for at, _ in ring] == [0, 4, 8, 11]


def test_samples_and_entities_are_bounded() -> None:
    trends, now = filled(*range(100))
    assert len(trends.add(QUEUE, now + 5, 1.0)) == MAX_SAMPLES
    for number in range(MAX_ENTITIES):
        trends.add(("queues", str(number)), 0.0, 1.0)
    assert len(trends.add(QUEUE, 0.0, 1.0)) == 1


def test_failures_in_a_row_are_counted_from_the_last_completion() -> None:
    streaks = Streaks()
    assert streaks.update("a", {"i": (0, 3)}) == {"i": 3}
    assert streaks.update("a", {"i": (0, 5)}) == {"i": 5}
    assert streaks.update("a", {"i": (1, 5)}) == {"i": 0}
    assert streaks.update("a", {"i": (1, 6), "j": (9, 4)}) == {"i": 1, "j": 0}


def test_an_instance_that_starts_again_has_no_failures_in_a_row() -> None:
    streaks = Streaks()
    streaks.update("a", {"i": (0, 7)})
    assert streaks.update("a", {"i": (0, 0)}) == {"i": 0}


def test_a_number_that_went_up_once_is_no_trend() -> None:
    trends = Trends()
    for second in range(0, 90, 5):
        trends.add(QUEUE, second, 0 if second < 40 else 300)
    assert not trends.rises(QUEUE, 85)
