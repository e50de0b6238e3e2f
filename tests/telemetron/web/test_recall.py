"""Questions to the history, and the problems if it has no answer."""

from datetime import UTC, datetime

import pytest

from telemetron.history.history import BusyError
from telemetron.history.place import Place
from telemetron.http import HttpProblem
from telemetron.web.recall import place_or_time, recall

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Counting:
    """Counts the questions to a history."""

    def __init__(self, history):
        self.history = history
        self.questions = 0

    async def ask(self, question):
        self.questions += 1
        return await self.history.ask(question)


class Busy:
    """A history that cannot answer."""

    async def ask(self, question):
        raise BusyError("the history cannot answer now")


def test_a_parameter_is_a_place_or_a_time():
    assert place_or_time("since", {}, NOW) is None
    assert place_or_time("since", {"since": "ab.1"}, NOW) == Place("ab", 1)
    assert place_or_time("since", {"since": "0s"}, NOW) == NOW


def test_a_long_wrong_value_is_cut_in_the_message():
    with pytest.raises(HttpProblem) as raised:
        place_or_time("since", {"since": "x" * 10_000}, NOW)
    assert raised.value.status == 400
    assert len(raised.value.detail) < 300


async def test_the_timeline_answers(live):
    tip = await recall(live.app.service.history, lambda timeline: timeline.tip)
    assert tip.epoch == live.app.service.store.snapshot.epoch


async def test_an_unknown_place_is_a_410_after_one_question(live):
    """A second question, for the oldest place, could be refused if many clients ask."""
    history = Counting(live.app.service.history)
    with pytest.raises(HttpProblem) as raised:
        await recall(history, lambda timeline: timeline.resolve("ab.1", NOW))
    assert (raised.value.status, history.questions) == (410, 1)
    oldest = raised.value.more["oldest"]
    assert await recall(live.app.service.history, lambda timeline: timeline.resolve(oldest, NOW))


async def test_a_wrong_question_is_a_400(live):
    with pytest.raises(HttpProblem) as raised:
        await recall(live.app.service.history, lambda timeline: int("x"))
    assert raised.value.status == 400


async def test_a_busy_history_is_a_503():
    with pytest.raises(HttpProblem) as raised:
        await recall(Busy(), lambda timeline: timeline.tip)
    assert raised.value.status == 503
    assert raised.value.headers == {"retry-after": "1"}
