"""No brief has more tokens than its budget, by the tokenizers of today."""

import json
from pathlib import Path

import pytest

from telemetron.answers.brief.brief import Known, Question, causes, overview
from telemetron.answers.brief.forms import Json, Markdown
from telemetron.answers.brief.past import PastChange
from tests.real.answers import tokenizers
from tests.real.nightly import often
from tests.telemetron.answers.brief.made import (
    HEALTHY,
    RandomSystem,
    ago,
    incident,
    snapshot,
    surveyed,
)

NAMES = ("writer", "planner", "reviewer-7d8f9c6b5-x2x9q", "checkout_service", "übersetzer", "検索")
BUDGETS = (200, 333, 500, 1_000, 2_000, 5_000, 10_000)
CHANGED = [
    PastChange(ago(90 + n), ("queues", "kafka/sections/g"), "consumers", n, 0) for n in range(9)
]


@pytest.fixture(scope="module")
def python() -> Path:
    found = tokenizers.build()
    if found is None:
        pytest.skip("the tokenizers need Python 3.12 or newer")
    return found


@pytest.mark.parametrize("form", [Json(), Markdown()], ids=lambda form: form.media)
def test_no_brief_is_above_its_budget(python: Path, form: Json | Markdown) -> None:
    systems = [
        RandomSystem(seed, (3, 12, 60)[seed % 3], seed % 7, NAMES) for seed in range(often(40))
    ]
    snapshots = [snapshot(**incident()), *(system.snapshot for system in systems)]
    asked = [(surveyed(one), tokens) for one in snapshots for tokens in BUDGETS]
    texts = [
        overview(survey, Known(CHANGED), Question(tokens), form).decode()
        for survey, tokens in asked
    ]
    found = tokenizers.counts(python, texts)
    over = {
        (number, tokens): counted
        for number, ((_, tokens), counted) in enumerate(zip(asked, found, strict=True))
        if max(counted.values()) > tokens
    }
    assert over == {}


def test_a_healthy_system_takes_150_tokens(python: Path) -> None:
    text = overview(surveyed(snapshot("telemetron", **HEALTHY)), Known(), Question(), Json())
    (counted,) = tokenizers.counts(python, [text.decode()])
    assert max(counted.values()) <= 150


def test_the_cause_is_in_the_smallest_brief(python: Path) -> None:
    survey = surveyed(snapshot(**incident()))
    text = overview(survey, Known(), Question(200), Json()).decode()
    assert causes(survey)[0].rule in json.loads(text)["findings"]["rows"][0]
    (counted,) = tokenizers.counts(python, [text])
    assert max(counted.values()) <= 200
