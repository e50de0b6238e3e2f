import asyncio
from contextlib import asynccontextmanager

import pytest

from telemetron.config.settings import parse
from telemetron.service.service import Service
from telemetron.service.supervisor import SupervisorLimits


@asynccontextmanager
async def running(file, config=""):
    """A service that has started, without HTTP."""
    file.write_text(config)
    settings, _, problems = await asyncio.to_thread(parse, str(file), {})
    assert not problems
    service = Service(settings, limits=SupervisorLimits(start_seconds=30))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def test_sources_run_without_the_web(tmp_path):
    async with running(tmp_path / "t.yaml") as service:
        await service.supervisor.loaded(30)
        statuses = {name: source.status for name, source in service.store.sources.items()}
        off = dict.fromkeys(service.settings.off, "off")
        assert statuses == {"findings": "ok", "heartbeats": "starting"} | off
        assert list(service.supervisor.mounts.collectors) == ["/agents/"]
        assert len(service.store.snapshot.sections["sources"].rope) == len(statuses)
    assert service.supervisor.mounts.apps == {}


async def test_declared_agents_have_a_source_that_is_ok(tmp_path):
    config = "agents: [{name: planner, namespace: prod, models: [m]}]"
    async with running(tmp_path / "t.yaml", config) as service:
        source = service.store.sources["configuration"]
        assert (source.status, source.entities) == ("ok", 1)
        assert len(service.store.snapshot.sections["agents"].rope) == 1


async def test_probes_are_known_while_their_collector_is_off_or_misconfigured(tmp_path):
    for config in ("heartbeats: off", "heartbeats: {nonsense: 1}"):
        async with running(tmp_path / "t.yaml", f"sources: {{{config}}}") as service:
            await service.supervisor.loaded(30)
            mounts = service.supervisor.mounts
            assert mounts.probe("/agents/planner/livez") == "/agents/"
            assert not mounts.collectors


async def finding(service):
    """The first finding that the service shows."""
    shown = asyncio.Event()

    def look(_=None):
        if len(service.store.snapshot.sections["findings"].rope):
            shown.set()

    service.store.watchers.append(look)
    look()
    async with asyncio.timeout(30):
        await shown.wait()
    return next(iter(service.store.snapshot.sections["findings"].rope)).entity


@pytest.mark.parametrize("has_file", [True, False])
async def test_a_restart_goes_on_with_the_findings_of_a_history_file(tmp_path, has_file):
    file = f'"sqlite:///{tmp_path / "history.db"}"' if has_file else "null"
    config = f"""
sources: {{heartbeats: {{nonsense: 1}}}}
history: {{url: {file}}}
findings: {{rules: {{SourceFailing: {{hold_seconds: 0.1}}}}}}
"""
    raised_at = []
    for _ in range(2):
        async with running(tmp_path / "t.yaml", config) as service:
            raised_at.append((await finding(service)).raised_at)
    assert (raised_at[0] == raised_at[1]) == has_file
