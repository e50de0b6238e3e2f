"""The commands. Each imports its modules when it runs, because some import slowly.

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 invalid configuration, 130 interrupted.
"""

import json
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click

import telemetron
from telemetron.cli import output

if TYPE_CHECKING:
    from telemetron.config.settings import Settings

config_option = click.option(
    "--config", metavar="FILE", help="YAML configuration file.  [default: built-in defaults]"
)
url_option = click.option(
    "--url",
    envvar="TELEMETRON_URL",
    default="http://127.0.0.1:8080",
    help="URL of the server; also TELEMETRON_URL.  [default: http://127.0.0.1:8080]",
)
token_option = click.option(
    "--token-file",
    envvar="TELEMETRON_TOKEN_FILE",
    metavar="FILE",
    help="File with the read token; also TELEMETRON_TOKEN_FILE. TELEMETRON_TOKEN can hold the"
    " token itself.",
)
section_option = click.option(
    "--section", "sections", multiple=True, metavar="NAME", help="Only this section; repeatable."
)


class Commands(click.Group):
    """A group whose commands report Ctrl-C and unwritable output without a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the options; `--help` and `--version` write output here."""
        if isinstance(sys.stdout, TextIOWrapper):  # the terminal may not be UTF-8
            sys.stdout.reconfigure(errors="backslashreplace")
        with output.one_line_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and flush its output while an error can still set the exit code."""
        with output.one_line_errors():
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(telemetron.__version__, message="telemetron %(version)s")
def main() -> None:
    """Telemetron always knows the state of a multi-agent AI system."""


@main.command()
@config_option
@click.option("--host", help="Address to listen on; overrides SERVER_HOST and the file.")
@click.option("--port", type=int, help="Port to listen on; overrides SERVER_PORT and the file.")
@click.option("--root-path", metavar="PATH", help="Path prefix that a reverse proxy strips.")
def serve(config: str | None, **options: Any) -> None:
    """Run the server until SIGINT or SIGTERM."""
    given = {key: value for key, value in options.items() if value is not None}
    from telemetron import log

    log.configure("info")  # problems of the configuration are logged too
    settings = _load(config, given)
    log.configure(settings.log.level)
    from telemetron.service.service import Service
    from telemetron.web.app import App, server_options
    from telemetron.web.server.server import StartError
    from telemetron.web.server.server import serve as run

    try:
        app = App(Service(settings))
        served = server_options(app)
        served["facts"] = _facts(settings, config)
        sys.exit(run(app, **served))
    except StartError as error:
        output.fail_to_start([str(error)], output.FAILED)
    except Exception:
        output.fail_by_bug()


@main.command()
@config_option
def validate(config: str | None) -> None:
    """Check the configuration, including the keys of each source."""
    from telemetron.cli import collectors
    from telemetron.config.settings import ConfigError, parse

    try:
        settings, sources, problems = parse(config, os.environ)
    except ConfigError as error:
        output.fail(map(str, error.problems), output.BAD_CONFIG)
    problems += [problem for spec in sources.values() for problem in collectors.problems(spec)]
    if problems or settings is None:
        output.fail(map(str, ConfigError(problems).problems), output.BAD_CONFIG)
    on = [
        name if name == spec.collector else f"{name} ({spec.collector})"
        for name, spec in sorted(settings.sources.items())
    ]
    output.write(f"{config or 'environment'}: ok")
    output.write(f"on: {', '.join(on) or 'nothing'}")
    output.write(f"off: {', '.join(settings.off) or 'nothing'}")


@main.command()
@url_option
@token_option
@section_option
@click.option("--at", metavar="PLACE|TIME|5m", help="The state at this place, time or age.")
def state(url: str, token_file: str | None, sections: tuple[str, ...], at: str | None) -> None:
    """Show the state: tables on a terminal, otherwise JSON."""
    from telemetron.client import FetchError, fetch

    query = _query(sections, at=at)
    try:
        response = fetch(url, _token(token_file), "/system/state", query)
    except FetchError as error:
        output.fail([str(error)])
    if not output.is_terminal():
        output.write(response.body, nl=False)
        return
    from telemetron.cli.state import show

    show(response.body, response.now, at)


@main.command()
@click.argument("id", metavar="ID")
@url_option
@token_option
@click.option(
    "--look",
    type=click.IntRange(0, 50_000),
    metavar="N",
    help="Pending records to search for the id.  [default: 5000]",
)
def task(id: str, url: str, token_file: str | None, look: int | None) -> None:
    """Show where a task is, by its ID or as QUEUE/PARTITION/OFFSET: text or JSON."""
    from telemetron.cli.task import show
    from telemetron.client import FetchError

    try:
        show(url, _token(token_file), id, _query((), look=look))
    except FetchError as error:
        output.fail([str(error)])


@main.command()
@url_option
@token_option
@click.option("--about", metavar="NAME", help="A key, a name, or the id of a task or pod.")
@click.option(
    "--max-tokens",
    type=click.IntRange(200, 10_000),
    help="The most tokens of the answer.  [default: 2000]",
)
def brief(url: str, token_file: str | None, **options: Any) -> None:
    """Show what matters now: Markdown on a terminal, otherwise JSON."""
    from telemetron.cli.brief import show
    from telemetron.client import FetchError

    try:
        show(url, _token(token_file), _query((), **options))
    except FetchError as error:
        output.fail([str(error)])


@main.command()
@url_option
@token_option
@click.option(
    "--watch", is_flag=True, help="Show each beginning and end as it comes, until Ctrl-C."
)
def findings(url: str, token_file: str | None, watch: bool) -> None:
    """Show the findings, each at its root: text on a terminal, otherwise JSON."""
    from telemetron.cli import findings as command
    from telemetron.client import FetchError

    run = command.watch if watch else command.show
    try:
        run(url, _token(token_file))
    except FetchError as error:
        output.fail([str(error)])


@main.command()
@url_option
@token_option
@section_option
@click.option(
    "--since",
    metavar="PLACE|TIME|5m",
    help="Start.  [default: 5m; with --follow: now; with --until: the oldest place]",
)
@click.option("--until", metavar="PLACE|TIME|5m", help="End.  [default: now]")
@click.option("--key", metavar="KEY", help="Only entities with this key.")
@click.option(
    "--kinds",
    metavar="KIND,…",
    help="Only changes of these kinds: status, problems, membership, tasks, measures, or all."
    "  [default: all, with the tasks of agents counted]",
)
@click.option(
    "--measures",
    type=click.Choice(["none", "levels", "all"]),
    help="Measures to include.  [default: levels]",
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), help="Most entities to show.  [default: 100]"
)
@click.option(
    "--follow",
    is_flag=True,
    help="Show changes as they come, one JSON object per line, until Ctrl-C.",
)
def changes(
    url: str, token_file: str | None, sections: tuple[str, ...], follow: bool, **options: Any
) -> None:
    """Show changes: text on a terminal, otherwise JSON."""
    from telemetron.cli.changes import show, show_forever
    from telemetron.client import FetchError

    query = _query(sections, **options)
    if not follow and "until" not in query:
        query = {"since": "5m", **query}
    run: Callable[..., None] = show_forever if follow else show
    try:
        run(url, _token(token_file), query)
    except FetchError as error:
        output.fail([str(error)])


@main.command()
@url_option
@token_option
@click.option(
    "--http", metavar="HOST:PORT", help="Serve MCP over HTTP here.  [default: over stdio]"
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="With --http: name under which clients reach it, besides localhost; repeatable.",
)
def mcp(url: str, token_file: str | None, http: str | None, hosts: tuple[str, ...]) -> None:
    """Serve the tools for AI agents (MCP), as a client of a running server."""
    from telemetron.cli.mcp import serve_http, serve_stdio

    if http is None:
        if hosts:
            raise click.UsageError("--allow-host needs --http")
        serve_stdio(url, _token(token_file))
    elif _token(token_file) is not None:
        raise click.UsageError(
            "with --http each caller sends its own token: remove --token-file and TELEMETRON_TOKEN"
        )
    else:
        serve_http(url, http, hosts)


@main.group()
def webhooks() -> None:
    """Commands for the webhooks of a configuration."""


@webhooks.command("test")
@click.argument("name", metavar="NAME")
@config_option
def test_webhook(name: str, config: str | None) -> None:
    """Send a signed sample to the webhook NAME, and print the answer."""
    from telemetron.cli import webhooks
    from telemetron.config.settings import ConfigError, load

    try:
        settings = load(config, os.environ)
    except ConfigError as error:
        output.fail(map(str, error.problems), output.BAD_CONFIG)
    webhooks.test(settings, name)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the state."""
    from telemetron.web.pages.schema import schema as make

    output.write(json.dumps(make(), indent=2))


@main.command()
def collectors() -> None:
    """List the installed collectors and their configuration keys."""
    from telemetron.cli.collectors import installed, lines

    found = list(installed())
    if not output.is_terminal():
        output.write(json.dumps(found, indent=2))
        return
    for one in found:
        output.write("\n".join(lines(one)) + "\n")


@main.command()
@click.option("--port", type=int, help="Port of the server.  [default: 8080 if free, else any]")
@click.option("--hang", multiple=True, metavar="AGENT", help="Agent that hangs; repeatable.")
@click.option("--crash", multiple=True, metavar="AGENT", help="Agent that crashes; repeatable.")
@click.option("--seconds", type=float, help="Stop after this time.  [default: run until Ctrl-C]")
@click.option("--litellm", metavar="PROGRAM", help="Also run this LiteLLM proxy.")
@click.option("--kafka", metavar="HOST:PORT", help="Use this Kafka broker, with topics of its own.")
def demo(
    port: int | None,
    seconds: float | None,
    litellm: str | None,
    kafka: str | None,
    **faults: tuple[str, ...],
) -> None:
    """Run a server with a small multi-agent program, on loopback."""
    from telemetron.demo import AGENTS, run

    for fault, names in faults.items():
        if unknown := set(names).difference(AGENTS):
            message = f"no agent {', '.join(sorted(unknown))}; agents are {', '.join(AGENTS)}"
            raise click.BadParameter(message, param_hint=f"--{fault}")
    sys.exit(run(port, faults["hang"], faults["crash"], seconds, litellm, kafka))


def _load(config: str | None, options: dict[str, Any]) -> "Settings":
    from telemetron.config.settings import ConfigError, load

    try:
        return load(config, os.environ, options)
    except ConfigError as error:
        output.fail_to_start(map(str, error.problems), output.BAD_CONFIG)


def _facts(settings: "Settings", config: str | None) -> dict[str, str]:
    """Return the facts that the log has of each start."""
    auth = settings.server.auth
    tokens = [] if auth == "none" else [one for one in auth.__struct_fields__ if getattr(auth, one)]
    return {
        "version": telemetron.__version__,
        "file": config or "none",
        "sources": ", ".join(sorted(settings.sources)) or "none",
        "tokens": ", ".join(tokens) or "off",
    }


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("TELEMETRON_TOKEN", "").strip() or None
    try:
        with open(file) as opened:
            return opened.read().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        output.fail([f"{file}: cannot read the token: {reason}"])


def _query(sections: tuple[str, ...], **options: Any) -> dict[str, str]:
    """Return the given options. The server refuses empty values, as of an unset shell variable."""
    given = {"sections": ",".join(sections) if sections else None, **options}
    return {name: str(value) for name, value in given.items() if value is not None}
