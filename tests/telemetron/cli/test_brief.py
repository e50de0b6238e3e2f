"""`telemetron brief`: Markdown on a terminal, otherwise JSON."""

import json

from tests.telemetron.cli.program import (
    answering,
    beat,
    failing_on_terminal,
    invoke,
    on_terminal,
    refused,
)

MARKDOWN = {"Content-Type": "text/markdown"}


def test_a_pipe_gets_json(server: str) -> None:
    beat(server, "planner", tasks=[{"id": "t-1"}])
    done = invoke("brief", "--url", server, "--about", "t-1", "--max-tokens", "500")
    assert json.loads(done.stdout)["about"] == ["agents/cli/planner task t-1"]


def test_a_terminal_gets_markdown(server: str) -> None:
    beat(server, "planner")
    shown = on_terminal("brief", "--url", server, "--about", "planner")
    assert "- about: agents/cli/planner\r\n" in shown
    assert "## agents" in shown


def test_text_of_others_is_escaped_on_a_terminal() -> None:
    with answering(200, b"verdict: \x1b[31mred\n", **MARKDOWN) as url:
        assert "verdict: \\x1b[31mred" in on_terminal("brief", "--url", url)


def test_an_unknown_name_fails_with_the_nearest(server: str) -> None:
    beat(server, "planner")
    line = refused(invoke("brief", "--url", server, "--about", "cli/planer"), 1)
    assert "no 'cli/planer' in the state; did you mean 'cli/planner'?" in line


def test_another_server_is_refused() -> None:
    with answering(200, b"{}", **{"Content-Type": "application/json"}) as url:
        line = failing_on_terminal("brief", "--url", url)
        assert "expected text/markdown, got application/json" in line


def test_a_budget_out_of_bounds_is_wrong_usage() -> None:
    done = invoke("brief", "--max-tokens", "100")
    assert done.exit_code == 2
    assert "200<=x<=10000" in done.stderr
