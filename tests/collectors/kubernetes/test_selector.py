"""Which labels a selector fits; tests/real/kubernetes asks a real server the same."""

import pytest

from telemetron_collectors.kubernetes.selector import selector
from tests.collectors.kubernetes.selectors import LABELS, SELECTORS


@pytest.mark.parametrize(("written", "fitting"), SELECTORS.items())
def test_labels_that_fit_a_selector(written: str, fitting: set[str]) -> None:
    fits = selector(written)
    assert {name for name, labels in LABELS.items() if fits(labels)} == fitting


@pytest.mark.parametrize("written", ["a b", "=", "a in b", "a=b c", "(", "a in (b"])
def test_invalid_selector_fits_nothing(written: str) -> None:
    assert not selector(written)({"a": "b"})
