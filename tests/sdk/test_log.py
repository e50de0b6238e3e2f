"""Faults of the SDK and of what it is given are logged once, and never raised."""

from __future__ import annotations

import logging

from telemetron_agent.log import guarded, guarded_async


async def test_a_fault_in_a_callback_is_logged_once(caplog) -> None:
    @guarded
    def broken() -> None:
        raise KeyError("a secret")

    broken()
    broken()
    await guarded_async(broken)()
    (record,) = [r for r in caplog.records if r.name == "telemetron_agent"]
    assert record.levelno == logging.WARNING
    assert "broken failed: KeyError" in record.getMessage()
