"""The command line. What takes long to import is imported by the command that needs it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 the configuration is not valid, 130 interrupted.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

import click

import telemetron

if TYPE_CHECKING:
    from telemetron.cli.client import Answer
    from telemetron.config.convert import ConfigProblem
    from telemetron.config.settings import Settings, SourceSpec

FAILED = 1
BAD_CONFIG = 78  # EX_CONFIG of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

config_option = click.option(
    "--config", metavar="FILE", help="Configuration file (YAML); without it: the defaults."
)


url_option = click.option(
    "--url",
    envvar="TELEMETRON_URL",
    default="http://127.0.0.1:8080",
    help="The server; also TELEMETRON_URL.  [default: http://127.0.0.1:8080]",
)
token_option = click.option(
    "--token-file",
    envvar="TELEMETRON_TOKEN_FILE",
    metavar="FILE",
    help="File that holds the read token; also TELEMETRON_TOKEN_FILE, or TELEMETRON_TOKEN with"
    " the token itself.",
)
section_option = click.option(
    "--section", "sections", multiple=True, metavar="NAME", help="Only this; repeatable."
)


class Commands(click.Group):
    """The commands; an interrupt ends them quietly, and output that cannot be written in a line."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the options, of which `--help` and `--version` write too."""
        if isinstance(sys.stdout, TextIOWrapper):  # a terminal that is not UTF-8
            sys.stdout.reconfigure(errors="backslashreplace")
        with _ends_in_a_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _ends_in_a_line():
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # else the interpreter fails to, after the exit code is set
            return result


@contextmanager
def _ends_in_a_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click ends quietly: the reader has seen enough
        _drop_output()
        _fail([f"cannot write the output: {error.strerror}"])


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail to write it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(telemetron.__version__, message="telemetron %(version)s")
def main() -> None:
    """Telemetron always knows the state of a multi-agent AI system."""


@main.command()
@config_option
@click.option("--host", help="Address to listen on; wins over SERVER_HOST and the file.")
@click.option("--port", type=int, help="Port to listen on; wins over SERVER_PORT and the file.")
@click.option("--root-path", metavar="PATH", help="Path that a proxy strips.")
def serve(config: str | None, **options: Any) -> None:
    """Run the server until SIGINT or SIGTERM."""
    given = {key: value for key, value in options.items() if value is not None}
    from telemetron import log

    log.configure("info")  # until the configuration says else: its problems are logged too
    settings = _load(config, given)
    log.configure(settings.log.level)
    from telemetron.service.service import Service
    from telemetron.web.app import App, server_options
    from telemetron.web.server.server import StartError
    from telemetron.web.server.server import serve as run

    app = App(Service(settings))
    try:
        sys.exit(run(app, **server_options(app)))
    except StartError as error:
        _refuse_start([str(error)], FAILED)


@main.command()
@config_option
def validate(config: str | None) -> None:
    """Check the whole configuration, each source's keys too."""
    from telemetron.config.settings import ConfigError, parse

    try:
        settings, sources, problems = parse(config, os.environ)
    except ConfigError as error:
        _fail(map(str, error.problems), BAD_CONFIG)
    problems += [problem for spec in sources.values() for problem in _source_problems(spec)]
    if problems or settings is None:
        _fail(map(str, ConfigError(problems).problems), BAD_CONFIG)
    on = [
        name if name == spec.collector else f"{name} ({spec.collector})"
        for name, spec in sorted(settings.sources.items())
    ]
    _print(f"{config or 'environment'}: ok")
    _print(f"on: {', '.join(on) or 'nothing'}")
    _print(f"off: {', '.join(settings.off) or 'nothing'}")


@main.command()
@url_option
@token_option
@section_option
@click.option("--at", metavar="PLACE|TIME|5m", help="As it was then.")
def state(url: str, token_file: str | None, sections: tuple[str, ...], at: str | None) -> None:
    """Show the state: tables on a terminal, else the JSON."""
    from telemetron.cli.client import FetchError, fetch

    query = _given({"sections": _names(sections), "at": at})
    try:
        answer = fetch(url, _token(token_file), "/system/state", query)
    except FetchError as error:
        _fail([str(error)])
    if _on_terminal():
        _show(answer, at)
    else:
        _print(answer.body, nl=False)


@main.command()
@url_option
@token_option
@section_option
@click.option(
    "--since",
    metavar="PLACE|TIME|5m",
    help="From where.  [default: 5m; to follow: now; with --until: the oldest]",
)
@click.option("--until", metavar="PLACE|TIME|5m", help="Up to where.  [default: now]")
@click.option("--key", metavar="KEY", help="Only entities with this key.")
@click.option(
    "--measures", type=click.Choice(["none", "levels", "all"]), help="Which.  [default: levels]"
)
@click.option("--limit", type=click.IntRange(1, 1000), help="Most entities.  [default: 100]")
@click.option("--follow", is_flag=True, help="Go on as changes come, until Ctrl-C.")
def changes(
    url: str, token_file: str | None, sections: tuple[str, ...], follow: bool, **options: Any
) -> None:
    """Show what changed: text on a terminal, else the JSON, one line each with --follow."""
    from telemetron.cli.client import FetchError, fetch

    query = _given({"sections": _names(sections), **options})
    token = _token(token_file)
    try:
        if follow:
            _follow(url, token, query)
        else:
            asked = query if "until" in query else {"since": "5m", **query}
            answer = fetch(url, token, "/system/changes", asked)
            _show_changes(answer.body, _now(answer.date))
    except FetchError as error:
        _fail([str(error)])


@main.command()
def schema() -> None:
    """Print the JSON Schema of the state."""
    from telemetron.web.pages.schema import schema as make

    _print(json.dumps(make(), indent=2))


@main.command()
def collectors() -> None:
    """List the installed collectors and their keys."""
    found = list(_installed())
    if not _on_terminal():
        _print(json.dumps(found, indent=2))
        return
    for one in found:
        _print("\n".join(_lines(one)) + "\n")


@main.command()
@click.option("--port", type=int, help="Port of the server.  [default: 8080 where free, else any]")
@click.option("--hang", multiple=True, metavar="AGENT", help="Who hangs in a task; repeatable.")
@click.option("--crash", multiple=True, metavar="AGENT", help="Who dies in a task; repeatable.")
@click.option("--seconds", type=float, help="How long it runs.  [default: until Ctrl-C]")
@click.option("--litellm", metavar="PROGRAM", help="Run this LiteLLM proxy too.")
def demo(
    port: int | None, seconds: float | None, litellm: str | None, **faults: tuple[str, ...]
) -> None:
    """Run a server with a small multi-agent program, on loopback."""
    from telemetron.demo import AGENTS, run

    for fault, names in faults.items():
        if unknown := set(names).difference(AGENTS):
            message = f"{', '.join(sorted(unknown))}: no such agent; there are {', '.join(AGENTS)}"
            raise click.BadParameter(message, param_hint=f"--{fault}")
    sys.exit(run(port, faults["hang"], faults["crash"], seconds, litellm))


def _load(config: str | None, options: dict[str, Any]) -> "Settings":
    from telemetron.config.settings import ConfigError, load

    try:
        return load(config, os.environ, options)
    except ConfigError as error:
        _refuse_start(map(str, error.problems), BAD_CONFIG)


def _source_problems(spec: "SourceSpec") -> Iterator["ConfigProblem"]:
    from telemetron.config.convert import unknown
    from telemetron.config.settings import ConfigError, configure
    from telemetron.service.supervisor import NotInstalledError, load

    path = ("sources", spec.name, "collector")
    try:
        collector = load(spec.collector)
        collector.max_age_seconds(configure(spec, collector))
    except ConfigError as error:
        yield from error.problems
    except NotInstalledError:
        known = [entry_point.name for entry_point in _entry_points()]
        yield from spec.problems
        yield spec.origin.problem(path, unknown("collector", spec.collector, known))
    except Exception as error:  # the collector's own code
        message = f"{spec.collector} cannot be used: {type(error).__name__}: {error}"
        yield spec.origin.problem(path, message)


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("TELEMETRON_TOKEN", "").strip() or None
    try:
        with open(file) as opened:
            return opened.read().strip()
    except (OSError, ValueError) as error:
        _fail([f"{file}: the token cannot be read: {type(error).__name__}"])


def _names(sections: tuple[str, ...]) -> str | None:
    return ",".join(sections) if sections else None


def _given(query: dict[str, Any]) -> dict[str, str]:
    """The options that are given; the server refuses an empty value, as of a variable not set."""
    return {name: str(value) for name, value in query.items() if value is not None}


def _now(date: str | None) -> datetime:
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(date) if date else datetime.now(UTC)


def _follow(url: str, token: str | None, query: dict[str, str]) -> None:
    """For ever; a server that went away is asked again."""
    from telemetron.backoff import Backoff
    from telemetron.cli.client import FetchError, follow

    backoff = Backoff()
    last = None
    while True:
        try:
            for event in follow(url, token, "/system/changes", query, last):
                backoff.reset()
                last = event.id
                if event.data:
                    _show_changes(event.data.encode() + b"\n", None)
            click.echo("the stream ended; asking again", err=True)
        except FetchError as error:
            if last is None:
                raise
            click.echo(f"{error}; asking again", err=True)
        time.sleep(backoff.next())


def _show_changes(body: bytes, now: datetime | None) -> None:
    """Ages against `now`; without it, the times themselves."""
    if not _on_terminal():
        _print(body, nl=False)
        return
    from telemetron.cli import lines

    try:
        told = json.loads(body)
        text = list(lines.changes(told, now))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        _fail([f"unexpected response; is the server a newer version of Telemetron? {error}"])
    _print("\n".join(text))


def _show(answer: "Answer", at: str | None) -> None:
    import msgspec
    from rich.console import Console

    from telemetron.cli import table
    from telemetron.document import State

    try:
        known = msgspec.json.decode(answer.body, type=State)
    except msgspec.MsgspecError as error:
        _fail([f"unexpected response; is the server a newer version of Telemetron? {error}"])
    now = _now(answer.date)
    moment = _moment(at, now, known.changed_at) if at else now
    table.show(known, moment, Console(highlight=False), is_past=at is not None)


def _moment(at: str, now: datetime, changed_at: datetime) -> datetime:
    """The time that `--at` means: an age, a time, or a place, which arose when it was published."""
    from telemetron.history.place import parse

    found = parse(at, now)
    return found if isinstance(found, datetime) else changed_at


def _entry_points() -> Iterable[Any]:
    from importlib.metadata import entry_points

    from telemetron.collector import ENTRY_POINTS

    return sorted(entry_points(group=ENTRY_POINTS), key=lambda entry_point: entry_point.name)


def _installed() -> Iterator[dict[str, Any]]:
    """Each installed collector, for JSON; `problem` says why one cannot be imported."""
    from telemetron.config.convert import keys

    for entry_point in _entry_points():
        distribution = entry_point.dist
        found: dict[str, Any] = {
            "name": entry_point.name,
            "distribution": f"{distribution.name} {distribution.version}" if distribution else None,
            "problem": None,
        }
        try:
            collector = entry_point.load()
            found |= {
                "description": collector.description,
                "sections": collector.sections,
                "paths": collector.paths,
                "config": [key._asdict() for key in keys(collector.config)],
            }
        except Exception as error:  # the collector's own code
            found["problem"] = f"{type(error).__name__}: {error}"
        yield found


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['name']}  ({found['distribution']})"
    if found["problem"]:
        yield f"  cannot be imported: {found['problem']}"
        return
    yield f"  {found['description']}"
    yield f"  writes {', '.join(found['sections'])}"
    for key in found["config"]:
        default = "required" if key["required"] else f"default {json.dumps(key['default'])}"
        yield f"  {key['name']}: {key['type']}, {default}. {key['description']}"


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _print(text: str | bytes, nl: bool = True) -> None:
    if sys.stdout is None:
        _fail(["cannot write the output: standard output is closed"])
    click.echo(text, nl=nl)


def _refuse_start(lines: Iterable[str], code: int) -> NoReturn:
    """Say why the server does not start: to a person in plain lines, else in the log's format."""
    if sys.stderr is None or sys.stderr.isatty():
        _fail(lines, code)
    from loguru import logger

    for line in lines:
        logger.error("{}", line)
    sys.exit(code)


def _fail(lines: Iterable[str], code: int = FAILED) -> NoReturn:
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)
