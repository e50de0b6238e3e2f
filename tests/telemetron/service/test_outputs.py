import asyncio

import pytest

from telemetron.collector import Collector, Config, Put
from telemetron.document import Queue
from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.store.store import Store
from telemetron.testing import FakeClock

HOOKS = Collector(
    name="hooks",
    description="",
    config=Config,
    sections=("queues",),
    max_age_seconds=lambda config: 30,
    run=lambda config, output: asyncio.sleep(0),
    paths=("/hooks/",),
    probes={"/hooks/{name}/livez": "Whether a hook works"},
)


async def app(scope, receive, send):
    raise NotImplementedError


@pytest.fixture
def mounts():
    return Mounts()


@pytest.fixture
def output(mounts):
    store = Store("test", FakeClock())
    return BoundOutput(store, store.add("mine", "hooks"), HOOKS, mounts)


# mounts


def test_registered_collector_owns_its_paths_and_probes(mounts):
    mounts.register(HOOKS)
    assert mounts.collectors == {"/hooks/": HOOKS}
    assert mounts.probes == HOOKS.probes
    assert mounts.probe("/hooks/a/livez") == "/hooks/"


def test_unused_collector_owns_only_its_probes(mounts):
    mounts.register_probes(HOOKS)
    assert mounts.collectors == {}
    assert mounts.probe("/hooks/a/livez") == "/hooks/"
    assert mounts.probing == {"hooks": HOOKS}


@pytest.mark.parametrize(
    ("path", "is_probe"),
    [
        ("/hooks/a/livez", True),
        ("/hooks/a/b/livez", True),  # a proxy has decoded a slash
        ("/hooks/a%2Fb/livez", True),
        ("/hooks/livez", False),
        ("/hooks//livez", False),
        ("/hooks/a/livez/", False),
        ("/hooks/a/livezx", False),
        ("/other/hooks/a/livez", False),
    ],
)
def test_probe_matches_its_template(mounts, path, is_probe):
    mounts.register(HOOKS)
    assert mounts.probe(path) == ("/hooks/" if is_probe else None)


def test_path_is_answered_by_one_source_at_a_time(mounts):
    mounts.add("/hooks/", app, "mine")
    with pytest.raises(ValueError, match="source mine answers /hooks/ already"):
        mounts.add("/hooks/", app, "other")
    mounts.remove("mine")
    mounts.add("/hooks/", app, "other")
    assert mounts.apps == {"/hooks/": app}


# outputs


async def test_output_refuses_what_the_collector_does_not_declare(output):
    with pytest.raises(ValueError, match="hooks does not write agents"):
        output.put("agents", "g", "i", Queue(name="q"))
    with pytest.raises(ValueError, match="hooks does not write agents"):
        output.remove("agents", "i")
    with pytest.raises(ValueError, match="hooks does not write agents"):
        await output.replace([Put("agents", "g", "i", Queue(name="q"))])
    with pytest.raises(ValueError, match="/other/ is not among the paths of hooks"):
        output.mount("/other/", app)


async def test_closed_output_refuses_every_call_and_answers_no_path(output, mounts):
    output.mount("/hooks/", app)
    output.close()
    assert mounts.apps == {}
    for call in (
        lambda: output.put("queues", "g", "i", Queue(name="q")),
        lambda: output.remove("queues", "i"),
        lambda: output.expect(["a"]),
        lambda: output.confirm(),
        lambda: output.trouble("", "Timeout", ""),
        lambda: output.mount("/hooks/", app),
    ):
        with pytest.raises(RuntimeError, match="this run has ended"):
            call()
    with pytest.raises(RuntimeError, match="this run has ended"):
        await output.replace([])
