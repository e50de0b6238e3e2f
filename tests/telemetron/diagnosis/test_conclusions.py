"""Findings are small, whatever the names in them are, and say what was cut."""

import asyncio
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetron.document import LastExit, Wait
from tests.telemetron.diagnosis.system import System
from tests.telemetron.diagnosis.test_diagnosis import dead_consumer


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def document(system: System) -> dict[str, Any]:
    """What `/system/state/findings` answers."""
    found: dict[str, Any] = json.loads(b"".join(system.store.snapshot.chunks(("findings",))))
    return found


NAMES = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=63)


@settings(max_examples=10, deadline=None)
@given(name=NAMES, pod=NAMES, queue=NAMES, agents=st.integers(1, 30))
@example("w" * 63, "p" * 63, "q" * 63, 30)
def test_a_finding_is_small_however_long_the_names_are(
    name: str, pod: str, queue: str, agents: int
) -> None:
    async def play() -> None:
        async with System() as system:
            end = LastExit(reason="OOMKilled", exit_code=137, at=system.ago(9), container="main")
            bad = {"ready": False, "reason": "CrashLoopBackOff", "restarts": 6, "last_exit": end}
            key = system.workload(name, system.pod(pod, **bad))
            system.agent(name, status="silent", pod=pod, workload=key, queues=[queue])
            system.queue(queue, name, depth=7, consumers=0, group_state="Empty")
            wait = Wait(kind="queue", name=queue)
            for number in range(agents):
                system.agent(f"a{number}", system.task(f"t-{number}-{pod}", wait, stalled=True))
            await system.after(60)
            (finding,) = document(system)["findings"]
            assert len(encoded(finding)) <= 1_500
            assert finding["effect_count"] == agents + 2
            listed = len(finding["effects"])
            cut = {"effects": agents + 2} if listed < agents + 2 else {}
            assert {**cut, **(finding["truncated"] or {})} == (finding["truncated"] or {})
            assert finding["evidence"]

    asyncio.run(play())


async def test_the_longest_names_cost_the_evidence_not_the_root() -> None:
    async with System() as system:
        instance = "i" * 256
        system.agent("a" * 256, instance=instance, status="silent")
        system.agent("a" * 256, instance="other")
        (finding,) = (await system.after(60), document(system)["findings"])[1]
        assert finding["root"]["path"] == f"instances/{instance}"
        assert len(encoded(finding)) <= 2_500
        assert finding["truncated"] == {"evidence": 1}


async def test_two_incidents_among_sixty_agents_are_told_in_little_more_than_two_kilobytes() -> (
    None
):
    async with System() as system:
        for number in range(57):
            system.agent(f"agent-{number}", system.task(f"t{number}"))
        dead_consumer(system)
        wait = Wait(kind="tool", name="chromium", since=system.ago(400))
        system.agent("browser", system.task("page-1234", wait, stalled=True))
        await system.after(60)
        shown = document(system)
        assert [one["rule"] for one in shown["findings"]] == ["TaskStalled", "WorkloadCrashing"]
        assert shown["sources"] == []
        assert len(encoded(shown)) <= 2_400
