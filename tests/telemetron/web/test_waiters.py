import asyncio

import pytest

from telemetron.store.rope import Change
from telemetron.store.snapshot import SectionSnapshot, Snapshot
from telemetron.store.store import Publication
from telemetron.testing import FakeClock
from telemetron.web.waiters import View, Waiters


def publication(revision=2, **changed):
    clock = FakeClock()
    change = Change(revision, revision, clock.now())
    snapshot = Snapshot("id", "e", clock.now(), change, {"sources": SectionSnapshot()})
    return Publication(snapshot, changed, 0)


@pytest.mark.parametrize(
    ("view", "measures", "touched"),
    [
        (View(("agents",)), False, True),
        (View(("queues",)), False, False),
        (View(("queues",)), True, True),
        (View(("workload",)), True, False),
        (View(("agents",), "a"), False, True),
        (View(("agents",), "b"), True, False),
        (View(("queues",), "q"), False, False),
        (View(("queues",), "q"), True, True),
    ],
)
def test_a_view_is_touched_by_its_own_changes(view, measures, touched):
    assert (
        view.is_touched(publication(agents={"a": True}, queues={"q": False}), measures) == touched
    )


def test_a_source_touches_every_view():
    changed = publication(sources={"kafka": True})
    assert View(("agents",)).is_touched(changed, False)
    assert View(("agents",), "a").is_touched(changed, False)
    assert not View(("agents",)).is_touched(publication(sources={"kafka": False}), False)


async def test_only_touched_long_polls_wake():
    waiters = Waiters(FakeClock())
    agents = asyncio.create_task(waiters.wait(View(("agents",)), False, 5))
    queues = asyncio.create_task(waiters.wait(View(("queues",)), False, 5))
    await asyncio.sleep(0)
    assert len(waiters) == 2
    waiters.published(publication(agents={"a": True}))
    assert await agents
    assert len(waiters) == 1
    waiters.stop()
    assert not await queues
    assert len(waiters) == 0


async def test_after_a_stop_a_wait_ends_at_once():
    waiters = Waiters(FakeClock())
    waiters.stop()
    assert not await waiters.wait(View(("agents",)), False, 5)
    await waiters.pause(5)


def test_a_revision_is_answered_after_a_second():
    clock = FakeClock()
    waiters = Waiters(clock)
    waiters.published(publication(2))
    clock.advance(0.25)
    waiters.published(publication(3))
    assert waiters.too_soon(2) == 0.75
    assert waiters.too_soon(3) == 1.0
    assert waiters.too_soon(1) == waiters.too_soon(4) == 0.0
    clock.advance(2)
    waiters.published(publication(4))
    assert waiters.too_soon(3) == 0.0
