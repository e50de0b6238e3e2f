"""Problems of questions to the history."""

from datetime import UTC, datetime

import pytest

from telemetron.http import HttpProblem
from telemetron.web.recall import place_or_time


def test_a_long_wrong_value_is_cut_in_the_message():
    with pytest.raises(HttpProblem) as raised:
        place_or_time("since", {"since": "x" * 10_000}, datetime.now(UTC))
    assert raised.value.status == 400
    assert len(raised.value.detail) < 300
