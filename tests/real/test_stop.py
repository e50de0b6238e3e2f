"""How long the server takes to stop, whatever hangs."""

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.telemetron.web.server.program import Program

STOP_SECONDS = 2.0
ANSWERS_SECONDS = 0.7
"""An answer may take so long if there is only one signal."""

pytestmark = pytest.mark.alone


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Starts programs."""
    programs: list[Program] = []

    def start(**hang: str) -> Program:
        programs.append(Program(**hang))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


def test_an_idle_client_and_a_long_poll_delay_nothing(start: Callable[..., Program]) -> None:
    program = start()
    with program.get("/poll"), program.get("/limit") as idle:
        assert idle.recv(1000)
        assert program.stop(signal.SIGTERM) < STOP_SECONDS / 2


@pytest.mark.parametrize(
    "hang",
    [
        {"start": "asyncio.create_task(deaf(), name='deaf')"},
        {"start": "asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)"},
        {"stop": "block()"},
        {"stop": "asyncio.sleep(60)"},
    ],
    ids=["task", "thread", "loop", "application"],
)
def test_it_stops_within_two_seconds(start: Callable[..., Program], hang: dict[str, str]) -> None:
    program = start(**hang)
    with program.get("/large") as stalled, program.get("/endless"):
        stalled.recv(1000)
        assert program.stop(signal.SIGTERM) < STOP_SECONDS
    assert program.process.returncode == 0


def test_a_second_signal_ends_the_wait_for_answers(start: Callable[..., Program]) -> None:
    def seconds() -> float:
        program = start()
        with program.get("/endless"), program.get("/limit") as later:
            assert later.recv(1000)
            return program.stop(signal.SIGINT, signal.SIGINT)

    assert any(seconds() < ANSWERS_SECONDS for _ in range(3))  # the machine may be busy
