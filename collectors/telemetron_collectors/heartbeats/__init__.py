"""Collector `heartbeats`: agents post their state; the collector notices when they stop."""

from typing import Annotated

from msgspec import Meta

from telemetron.collector import Collector, Config, Output
from telemetron_collectors.heartbeats.app import PREFIX, PROBES, HeartbeatApp
from telemetron_collectors.heartbeats.openapi import openapi
from telemetron_collectors.heartbeats.register import Register

CONFIRM_SECONDS = 10.0


class HeartbeatsConfig(Config, frozen=True):
    """The keys of a heartbeats source."""

    stall_after_seconds: Annotated[
        float,
        Meta(gt=0, description="A task is stalled if its progress has not changed for so long."),
    ] = 300.0
    forget_after_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="A silent instance is forgotten after so long;"
            " the last instance of an agent after a day.",
        ),
    ] = 3600.0


async def run(config: HeartbeatsConfig, output: Output) -> None:
    """Accept heartbeats; every running agent has sent one after two default intervals."""
    register = Register(
        output,
        stall_after=config.stall_after_seconds,
        forget_after=config.forget_after_seconds,
    )
    output.mount(PREFIX, HeartbeatApp(register, output))
    try:
        await output.clock.sleep(CONFIRM_SECONDS)
        # An earlier run may have published instances that no timer of this run forgets.
        await output.replace(register.parts())
        while True:
            await output.clock.sleep(CONFIRM_SECONDS)
            output.confirm()
    finally:
        register.close()


collector = Collector(
    name="heartbeats",
    description="Agents post their state to POST /agents/{name}/heartbeat.",
    config=HeartbeatsConfig,
    sections=("agents",),
    agent_rank=300,
    max_age_seconds=lambda config: 3 * CONFIRM_SECONDS,
    run=run,
    paths=(PREFIX,),
    probes=PROBES,
    openapi=openapi,
)
