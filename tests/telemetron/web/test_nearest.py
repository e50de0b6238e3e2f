"""Problems that name the sections or the keys that exist."""

import pytest

from telemetron.http import HttpProblem
from telemetron.web.nearest import require_sections, unknown_key
from tests.telemetron.web.client import beat


def test_an_unknown_section_is_a_problem_that_names_the_others(live):
    snapshot = live.app.service.store.snapshot
    require_sections(snapshot, ["agents", "sources"], 400)
    with pytest.raises(HttpProblem) as raised:
        require_sections(snapshot, ["agents", "agent"], 404)
    assert raised.value.status == 404
    assert "no section 'agent'; sections are sources, findings, agents" in raised.value.detail


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("planner", ["prod/planner"]),
        ("test/planner", ["prod/planner"]),
        ("prod/planer", ["prod/planner"]),
        ("prod/wirter", ["prod/writer"]),
        ("x" * 10_000, ["prod/planner", "prod/writer"]),
    ],
)
async def test_an_unknown_key_is_a_problem_with_similar_keys(live, key, nearest):
    await beat(live, "planner")
    await beat(live, "writer")
    problem = unknown_key(live.app.service.store.snapshot, ["agents"], key)
    assert problem.status == 404
    assert problem.more["nearest"][0] == nearest[0] or set(problem.more["nearest"]) == {*nearest}
    assert len(problem.detail) < 300


async def test_without_entities_there_are_no_similar_keys(live):
    problem = unknown_key(live.app.service.store.snapshot, ["agents", "queues"], "planner")
    assert (problem.detail, problem.more) == (
        "no 'planner' in any section asked for",
        {"nearest": []},
    )
