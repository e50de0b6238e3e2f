"""The configuration: a file, over the defaults; the environment; what the command line says.

Whatever is wrong inside one source is that source's: `load` notes it there, `configure` raises it,
and the other sources go on.
"""

import re
import ssl
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from telemetron.collector import Collector, Config
from telemetron.config import installed
from telemetron.config.convert import INVALID, ConfigError, Converter, Origin, Path, Place, Problem
from telemetron.config.installed import Variable
from telemetron.document import MAX_NAMES
from telemetron.secret import Secret

__all__ = [
    "ConfigError",
    "Secret",
    "Settings",
    "SourceSpec",
    "configure",
    "load",
    "parse",
]

ENVIRONMENT = {
    "SERVER_HOST": ("server", "host"),
    "SERVER_PORT": ("server", "port"),
    "LOG_LEVEL": ("log", "level"),
}
"""Variables that win over the file; one that is set but empty is as one that is not set."""

DEFAULT = "heartbeats"
"""The source, and its collector, that is on unless the configuration says otherwise."""

DECLARED = "configuration"
"""The source of the agents that the configuration declares."""

RESERVED = {
    DECLARED: "this name is that of the agents declared here",
    "history": "this name is that of the file of the history",
}

SOURCE_NAME = re.compile(r"[a-z0-9-]+")

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mapping of the file."""


class Auth(Table, frozen=True):
    """The tokens; each may be null on loopback alone."""

    read: Annotated[Secret | None, Meta(description="Token of those who read.")] = None
    write: Annotated[Secret | None, Meta(description="Token of agents, which write beats.")] = None


class Tls(Table, frozen=True):
    """HTTPS."""

    certfile: Annotated[str, Meta(description="File of the certificate chain, PEM.", min_length=1)]
    keyfile: Annotated[
        str | None, Meta(description="File of the private key, PEM; null: in `certfile`.")
    ] = None
    keyfile_password: Annotated[Secret | None, Meta(description="Password of the private key.")] = (
        None
    )


class Server(Table, frozen=True):
    """How the server is reached."""

    host: Annotated[
        str, Meta(description="Address to listen on; only loopback needs no tokens.", min_length=1)
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(description="Port to listen on; 0: any that is free.", ge=0, le=65535)
    ] = 8080
    probe_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="Port for bare probes and nothing else, on every address; null: none."),
    ] = None
    root_path: Annotated[
        str,
        Meta(
            description="Path that a proxy strips before it passes a request on, as `/telemetron`:"
            " a slash before each name, none at the end.",
            pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        ),
    ] = ""
    auth: Annotated[
        Auth | Literal["none"],
        Meta(description='Tokens, or "none": everybody who reaches the server may read and write.'),
    ] = Auth()
    tls: Annotated[Tls | None, Meta(description="HTTPS; null: HTTP.")] = None


class Log(Table, frozen=True):
    """What is logged."""

    level: Annotated[
        Literal["trace", "debug", "info", "warning", "error"],
        Meta(description="The least severe records that are logged."),
    ] = "info"


class History(Table, frozen=True):
    """What is kept of the past."""

    url: Annotated[
        Annotated[str, Meta(pattern=r"^sqlite:///[^?#]+$")] | None,
        Meta(
            description="File to keep it in, as `sqlite:////var/lib/telemetron/history.db`, with"
            " neither ? nor # in its name; null: memory only."
        ),
    ] = None
    memory_mib: Annotated[int, Meta(description="At most so much in memory, MiB.", ge=1)] = 64
    file_mib: Annotated[int, Meta(description="At most so much in the file, MiB.", ge=1)] = 1024
    max_age_hours: Annotated[float, Meta(description="Nothing older than this, hours.", gt=0)] = 24

    @property
    def path(self) -> str | None:
        """Of the file; relative where the URL has three slashes."""
        return None if self.url is None else self.url.removeprefix("sqlite:///")


class DeclaredAgent(Table, frozen=True):
    """An agent that is shown as `declared` until it beats."""

    name: Annotated[Name, Meta(description="Its name.")]
    namespace: Annotated[Name | None, Meta(description="Its namespace.")] = None
    description: Annotated[str | None, Meta(description="What it is for.")] = None
    deployment_name: Annotated[Name | None, Meta(description="Its Deployment.")] = None
    max_parallel_invocations: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Tasks it can run at once.")
    ] = None
    models: Annotated[list[Name], Meta(description="Models it uses.", max_length=MAX_NAMES)] = []
    queues: Annotated[
        list[Name], Meta(description="Queues it takes tasks from.", max_length=MAX_NAMES)
    ] = []


class SourceSpec(Struct, frozen=True):
    """One source as it was written; `configure` makes its collector's configuration of it."""

    name: str
    collector: str
    options: dict[str, Any]
    origin: Origin
    problems: tuple[Problem, ...] = ()

    def __repr__(self) -> str:  # options hold secrets
        return f"SourceSpec(name={self.name!r}, collector={self.collector!r})"


class Settings(Table, frozen=True):
    """The whole configuration."""

    id: Annotated[Name, Meta(description="This system's id, shown in the document.")] = "telemetron"
    server: Annotated[Server, Meta(description="How the server is reached.")] = Server()
    log: Annotated[Log, Meta(description="What is logged.")] = Log()
    history: Annotated[History, Meta(description="What is kept of the past.")] = History()
    agents: Annotated[
        list[DeclaredAgent], Meta(description="Agents that are known before they beat.")
    ] = []
    sources: Annotated[
        dict[str, SourceSpec], Meta(description="Sources that are on, by name.")
    ] = {}

    @property
    def off(self) -> list[str]:
        """The installed collectors that no source uses."""
        used = {spec.collector for spec in self.sources.values()} | set(self.sources)
        return [name for name in installed.collectors() if name not in used]


def load(
    file: str | None, environ: Mapping[str, str], options: Mapping[str, Any] | None = None
) -> Settings:
    """The settings; `options` (keys of `server`) are those of the command line, and win.

    Reads the files that are named, so not for an event loop. Raises ConfigError.
    """
    settings, _, problems = parse(file, environ, options)
    if settings is None or problems:
        raise ConfigError(problems)
    return settings


def parse(
    file: str | None, environ: Mapping[str, str], options: Mapping[str, Any] | None = None
) -> tuple[Settings | None, dict[str, SourceSpec], list[Problem]]:
    """As `load`: the settings if they are valid, the sources, and what is wrong beside them.

    Raises ConfigError where the file cannot be read at all.
    """
    values, origin, problems = _read(file, environ)
    _layer(values, origin, problems, environ, options or {})
    specs = _sources(values.get("sources"), origin, problems, environ)
    converter = Converter(origin, problems)
    settings = converter.convert(Settings, {**values, "sources": specs}, ())
    if settings is not INVALID:
        _check(settings, converter)
    # Those inside a source stand in its spec.
    inside = {("sources", name) for name in specs}
    rest = [problem for problem in problems if problem.path[:2] not in inside]
    return None if settings is INVALID else settings, specs, rest


def configure(source: SourceSpec, collector: Collector) -> Config:
    """The source's configuration as its collector takes it.

    Reads the files that hold secrets, so not for an event loop. Raises ConfigError.
    """
    converter = Converter(source.origin, list(source.problems))
    config = converter.convert(collector.config, source.options, ("sources", source.name))
    if converter.problems:
        raise ConfigError(converter.problems)
    return config  # type: ignore[no-any-return]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address; names other than `localhost` do not count."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _read(
    file: str | None, environ: Mapping[str, str]
) -> tuple[dict[str, Any], Origin, list[Problem]]:
    if file is None:
        return {}, Origin("environment"), []
    from telemetron.config import yamlfile  # PyYAML takes its time

    reader = yamlfile.read(file, environ)
    # A key that is left empty has its default.
    values = {key: value for key, value in reader.values.items() if value is not None}
    return values, reader.origin, reader.problems


def _layer(
    values: dict[str, Any],
    origin: Origin,
    problems: list[Problem],
    environ: Mapping[str, str],
    options: Mapping[str, Any],
) -> None:
    """Put the variables over the file, and the options over both."""
    for variable, path in ENVIRONMENT.items():
        if value := environ.get(variable):
            value = value.lower() if path == ("log", "level") else value
            _put(values, path, value, origin, problems, Place("environment", None, variable))
            origin.textual.add(path)
    for key, value in options.items():
        place = Place("command line", None, "--" + key.replace("_", "-"))
        _put(values, ("server", key), value, origin, problems, place)


def _put(
    values: dict[str, Any],
    path: tuple[str, str],
    value: Any,
    origin: Origin,
    problems: list[Problem],
    place: Place,
) -> None:
    table, key = path
    if isinstance(values.setdefault(table, {}), dict):
        values[table][key] = value
        origin.places[path] = place
        origin.textual.discard(path)
        problems[:] = _outside(path, problems)


def _outside(path: Path, problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems that are not of this value: another value replaces it."""
    return [problem for problem in problems if problem.path[: len(path)] != path]


def _sources(
    written: Any, origin: Origin, problems: list[Problem], environ: Mapping[str, str]
) -> dict[str, SourceSpec]:
    if not isinstance(written, dict):
        if written is not None and written is not INVALID:
            problems.append(origin.problem(("sources",), "expected a mapping of sources by name"))
        written = {}
    known = installed.collectors()
    specs = {}
    for name, options in written.items():
        if not SOURCE_NAME.fullmatch(name):
            problems.append(
                origin.problem(("sources", name), "expected a name of a-z, 0-9 and - alone")
            )
        elif name in RESERVED:
            problems.append(origin.problem(("sources", name), RESERVED[name]))
        elif name not in known or (options is not False and options != "off"):
            specs[name] = _spec(name, options, origin, problems)
    for variable in installed.variables():
        if value := environ.get(variable.name):
            _set(variable, value, specs, origin, is_named=variable.collector in written)
    if DEFAULT not in {*written, *(spec.collector for spec in specs.values())}:
        specs[DEFAULT] = SourceSpec(DEFAULT, DEFAULT, {}, origin)
    return specs


def _set(
    variable: Variable, value: str, specs: dict[str, SourceSpec], origin: Origin, is_named: bool
) -> None:
    """Set the variable's key in each source of its collector; without any, switch one on.

    `is_named`: the file names a source as the collector is named, `off` perhaps.
    """
    name = variable.collector
    if not is_named and name not in {spec.collector for spec in specs.values()}:
        origin.places["sources", name] = Place("environment")
        specs[name] = SourceSpec(name, name, {}, origin)
    for spec in specs.values():
        if spec.collector == name:
            path = ("sources", spec.name, variable.key)
            origin.places[path] = Place("environment", None, variable.name)
            origin.textual.add(path)
            options = spec.options | {variable.key: value}
            problems = tuple(_outside(path, spec.problems))
            specs[spec.name] = replace(spec, options=options, problems=problems)


def _spec(name: str, options: Any, origin: Origin, problems: list[Problem]) -> SourceSpec:
    path: Path = ("sources", name)
    options = {} if options is None else options  # `name:` alone has all defaults
    if not isinstance(options, dict):
        if options is not INVALID:
            off = ", or off" if name in installed.collectors() else ""
            problems.append(origin.problem(path, f"expected a mapping of its keys{off}"))
        options = {}
    collector = options.get("collector", name)
    if not isinstance(collector, str):
        problems.append(origin.problem((*path, "collector"), "expected the name of a collector"))
        collector = name
    own = {key: value for key, value in options.items() if key != "collector"}
    mine = tuple(problem for problem in problems if problem.path[:2] == path)
    return SourceSpec(name, collector, own, origin, mine)


def _check(settings: Settings, converter: Converter) -> None:
    """What no single value tells."""
    _check_bind(settings.server, converter)
    if settings.server.tls:
        _check_tls(settings.server.tls, converter)
    seen = set()
    for index, agent in enumerate(settings.agents):
        if (agent.namespace, agent.name) in seen:
            converter.report(("agents", index), f'"{agent.name}" is declared twice')
        seen.add((agent.namespace, agent.name))


def _check_bind(server: Server, converter: Converter) -> None:
    auth = server.auth
    if is_loopback(server.host) or auth == "none":
        return
    missing = [name for name in ("read", "write") if getattr(auth, name) is None]
    if missing:
        converter.report(
            ("server", "host"),
            f"{server.host} can be reached from outside: write both tokens under server.auth"
            f" (read_file: FILE, write_file: FILE), or auth: none to let everybody read and write;"
            f" missing: {' and '.join(missing)}",
        )


def _check_tls(tls: Tls, converter: Converter) -> None:
    # Without a password OpenSSL would ask the terminal for one.
    password = tls.keyfile_password.value if tls.keyfile_password else ""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certfile, tls.keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or error
        converter.report(("server", "tls"), f"the certificate or its key cannot be used: {reason}")
