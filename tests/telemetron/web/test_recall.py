"""Where a question to the past has no answer, or is none."""

from datetime import UTC, datetime

import pytest

from telemetron.http import HttpProblem
from telemetron.web.recall import when


def test_a_wrong_value_is_shown_cut():
    with pytest.raises(HttpProblem) as raised:
        when("since", {"since": "x" * 10_000}, datetime.now(UTC))
    assert raised.value.status == 400
    assert len(raised.value.detail) < 300
