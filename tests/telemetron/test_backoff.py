import pytest

from telemetron.backoff import CAP_SECONDS, FIRST_SECONDS, Backoff, retry_after


def test_delays_double_up_to_the_cap_each_with_jitter() -> None:
    seen = []
    for _ in range(50):
        backoff = Backoff()
        for number in range(10):
            delay = backoff.next()
            expected = min(FIRST_SECONDS * 2**number, CAP_SECONDS)
            assert 0.5 * expected <= delay <= 1.5 * expected
            seen.append(delay / expected)
    assert min(seen) < 0.6
    assert max(seen) > 1.4


def test_delays_are_short_again_after_a_reset() -> None:
    backoff = Backoff(first=1, cap=100)
    for _ in range(9):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1.5


@pytest.mark.parametrize("asked", [30.0, 299.0])
def test_a_retry_after_is_obeyed(asked: float) -> None:
    assert Backoff().next(asked) == asked


@pytest.mark.parametrize("asked", [None, 0, -5.0, float("nan"), 0.01])
def test_a_short_retry_after_does_not_shorten_the_delay(asked: float | None) -> None:
    assert 0.5 <= Backoff(first=1).next(asked) <= 1.5


@pytest.mark.parametrize("asked", [1e9, float("inf")])
def test_a_very_long_retry_after_is_limited(asked: float) -> None:
    assert Backoff().next(asked) == 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("²", None),
        ("Sat, 28 Nov 2026 05:00:00 GMT", None),
    ],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds
