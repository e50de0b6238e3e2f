"""The configuration: defaults, a file, the environment and the command line; later ones win.

Problems inside a source belong to that source: `load` keeps them there and `configure` raises them,
so that the other sources run.
"""

import re
import ssl
from collections.abc import Collection, Iterable, Mapping
from socket import gethostname
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

from telemetron.address import is_loopback
from telemetron.collector import Collector, Config
from telemetron.config import installed
from telemetron.config.convert import (
    INVALID,
    ConfigError,
    ConfigProblem,
    Converter,
    Location,
    Origin,
    Path,
    unknown,
)
from telemetron.config.installed import Variable
from telemetron.diagnosis.rule import SEVERITIES
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.document import MAX_NAMES, State
from telemetron.notifications.settings import (
    MAX_WEBHOOKS,
    AlertmanagerSettings,
    BaseUrl,
    WebhookSettings,
    secret_trouble,
)
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
"""Variables that win over the file; an empty one counts as not set."""

DEFAULT = "heartbeats"
"""The source, and its collector, that is on unless the configuration says otherwise."""

DECLARED = "configuration"
"""The source of the declared agents."""

RESERVED = {
    DECLARED: "this name is reserved for the declared agents; choose another",
    "history": "this name is reserved for the history; choose another",
    "notifications": "this name is reserved for the notifications; choose another",
}

SECTIONS = State.__struct_fields__[State.__struct_fields__.index("sources") :]
"""What a root, or a change, can be in."""

SOURCE_NAME = re.compile(r"[a-z0-9-]+")

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping in the file."""


class AuthSettings(Table, frozen=True):
    """The tokens; they are optional only on loopback."""

    read: Annotated[Secret | None, Meta(description="Token of clients that read.")] = None
    write: Annotated[Secret | None, Meta(description="Token of agents, which write beats.")] = None
    metrics: Annotated[
        Secret | None,
        Meta(description="Token of Prometheus, for the metrics; null: it needs the read token."),
    ] = None

    @property
    def tokens(self) -> dict[str, Secret]:
        """The configured tokens by their role."""
        roles = {"read": self.read, "write": self.write, "metrics": self.metrics}
        return {role: token for role, token in roles.items() if token is not None}


class TlsSettings(Table, frozen=True):
    """HTTPS."""

    certfile: Annotated[str, Meta(description="File of the certificate chain, PEM.", min_length=1)]
    keyfile: Annotated[
        str | None, Meta(description="File of the private key, PEM; null: in `certfile`.")
    ] = None
    keyfile_password: Annotated[Secret | None, Meta(description="Password of the private key.")] = (
        None
    )


class ServerSettings(Table, frozen=True):
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
    public_url: Annotated[
        BaseUrl | None,
        Meta(description="URL under which people reach it, for links; null: made of the host."),
    ] = None
    auth: Annotated[
        AuthSettings | Literal["none"],
        Meta(description='Tokens, or "none": everyone who reaches the server may read and write.'),
    ] = AuthSettings()
    tls: Annotated[TlsSettings | None, Meta(description="HTTPS; null: HTTP.")] = None

    @property
    def link_base(self) -> str:
        """The URL before the paths of links, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = self.host if is_loopback(self.host) else gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.root_path}"


class LogSettings(Table, frozen=True):
    """The log."""

    level: Annotated[
        Literal["trace", "debug", "info", "warning", "error"],
        Meta(description="Lowest severity that is logged."),
    ] = "info"


class HistorySettings(Table, frozen=True):
    """How much of the past is kept, and where."""

    url: Annotated[
        Annotated[str, Meta(pattern=r"^sqlite:///[^?#]+$")] | None,
        Meta(
            description="File of the history, as `sqlite:////var/lib/telemetron/history.db`,"
            " without ? or # in its name; null: memory only."
        ),
    ] = None
    memory_mib: Annotated[int, Meta(description="Maximum size in memory, MiB.", ge=1)] = 64
    file_mib: Annotated[int, Meta(description="Maximum size of the file, MiB.", ge=1)] = 1024
    max_age_hours: Annotated[float, Meta(description="Maximum age, hours.", gt=0)] = 24

    @property
    def path(self) -> str | None:
        """The path of the file; relative if the URL has three slashes."""
        return None if self.url is None else self.url.removeprefix("sqlite:///")


class MetricsSettings(Table, frozen=True):
    """The metrics of the state."""

    max_series: Annotated[
        int,
        Meta(description="Most series of a scrape; the worst entities are kept.", ge=1000),
    ] = 200_000


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
    """One source as configured; `configure` converts its options for its collector."""

    name: str
    collector: str
    options: dict[str, Any]
    origin: Origin
    problems: tuple[ConfigProblem, ...] = ()

    def __repr__(self) -> str:  # the options have secrets
        return f"SourceSpec(name={self.name!r}, collector={self.collector!r})"


class Settings(Table, frozen=True):
    """The whole configuration."""

    id: Annotated[Name, Meta(description="This system's id, shown in the document.")] = "telemetron"
    server: Annotated[ServerSettings, Meta(description="How the server is reached.")] = (
        ServerSettings()
    )
    log: Annotated[LogSettings, Meta(description="The log.")] = LogSettings()
    history: Annotated[HistorySettings, Meta(description="How much of the past is kept.")] = (
        HistorySettings()
    )
    metrics: Annotated[MetricsSettings, Meta(description="The metrics of the state.")] = (
        MetricsSettings()
    )
    findings: Annotated[
        FindingsSettings | Literal["off"],
        Meta(description='Which findings there are; "off": nothing is concluded.'),
    ] = FindingsSettings()
    alertmanager: Annotated[
        AlertmanagerSettings | None,
        Meta(description="The Alertmanagers that receive the findings; null: none."),
    ] = None
    webhooks: Annotated[
        list[WebhookSettings],
        Meta(description="The webhooks that receive events.", max_length=MAX_WEBHOOKS),
    ] = []
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
    """Return the settings; `options`, keys of `server` from the command line, win.

    It reads files, so call it outside the event loop. Raises ConfigError.
    """
    settings, _, problems = parse(file, environ, options)
    if settings is None or problems:
        raise ConfigError(problems)
    return settings


def parse(
    file: str | None, environ: Mapping[str, str], options: Mapping[str, Any] | None = None
) -> tuple[Settings | None, dict[str, SourceSpec], list[ConfigProblem]]:
    """Return the settings if they are valid, the sources, and the problems outside the sources.

    Raises ConfigError only if the file cannot be read at all.
    """
    written = _read(file, environ)
    _layer(written, environ, options or {})
    specs = _sources(written, environ)
    converter = Converter(written.origin, written.problems)
    settings = converter.convert(Settings, {**written.values, "sources": specs}, ())
    if settings is not INVALID:
        _check(settings, converter)
    # A source's spec has the problems inside the source.
    inside = {("sources", name) for name in specs}
    rest = [problem for problem in written.problems if problem.path[:2] not in inside]
    return None if settings is INVALID else settings, specs, rest


def configure(source: SourceSpec, collector: Collector) -> Config:
    """Return the source's configuration, of the type that its collector needs.

    It reads the files of secrets, so call it outside the event loop. Raises ConfigError.
    """
    converter = Converter(source.origin, list(source.problems))
    config = converter.convert(collector.config, source.options, ("sources", source.name))
    if converter.problems:
        raise ConfigError(converter.problems)
    return config  # type: ignore[no-any-return]


class Written(NamedTuple):
    """The values of all origins, their locations and their problems."""

    values: dict[str, Any]
    origin: Origin
    problems: list[ConfigProblem]

    def report(self, path: Path, message: str) -> None:
        self.problems.append(self.origin.problem(path, message))

    def put(self, path: tuple[str, str], value: Any, location: Location) -> None:
        """Replace a value of the file, and drop its problems."""
        table, key = path
        if isinstance(self.values.setdefault(table, {}), dict):
            self.values[table][key] = value
            self.origin.locations[path] = location
            self.origin.textual.discard(path)
            self.problems[:] = _outside(path, self.problems)


def _outside(path: Path, problems: Iterable[ConfigProblem]) -> list[ConfigProblem]:
    """Return the problems outside this path."""
    return [problem for problem in problems if problem.path[: len(path)] != path]


def _read(file: str | None, environ: Mapping[str, str]) -> Written:
    if file is None:
        return Written({}, Origin("environment"), [])
    from telemetron.config import yamlfile  # importing PyYAML is slow

    reader = yamlfile.read(file, environ)
    # An empty key has its default.
    values = {key: value for key, value in reader.values.items() if value is not None}
    return Written(values, reader.origin, reader.problems)


def _layer(written: Written, environ: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Replace values of the file by variables, and both by options."""
    for variable, path in ENVIRONMENT.items():
        if value := environ.get(variable):
            value = value.lower() if path == ("log", "level") else value
            written.put(path, value, Location("environment", None, variable))
            written.origin.textual.add(path)
    for key, value in options.items():
        location = Location("command line", None, "--" + key.replace("_", "-"))
        written.put(("server", key), value, location)


def _sources(written: Written, environ: Mapping[str, str]) -> dict[str, SourceSpec]:
    named = written.values.get("sources")
    if not isinstance(named, dict):
        if named is not None and named is not INVALID:
            written.report(("sources",), "expected a mapping of sources by name")
        named = {}
    known = installed.collectors()
    specs = {}
    for name, options in named.items():
        if not SOURCE_NAME.fullmatch(name):
            written.report(("sources", name), "expected a name of only a-z, 0-9 and -")
        elif name in RESERVED:
            written.report(("sources", name), RESERVED[name])
        elif name not in known or (options is not False and options != "off"):
            specs[name] = _spec(name, options, written, can_be_off=name in known)
    for variable in installed.variables():
        if value := environ.get(variable.name):
            _set(variable, value, specs, written.origin, is_named=variable.collector in named)
    if DEFAULT not in {*named, *(spec.collector for spec in specs.values())}:
        specs[DEFAULT] = SourceSpec(DEFAULT, DEFAULT, {}, written.origin)
    return specs


def _spec(name: str, options: Any, written: Written, can_be_off: bool) -> SourceSpec:
    path: Path = ("sources", name)
    options = {} if options is None else options  # `name:` without a value has all defaults
    if not isinstance(options, dict):
        if options is not INVALID:
            written.report(path, f"expected a mapping of keys{', or off' if can_be_off else ''}")
        options = {}
    collector = options.get("collector", name)
    if not isinstance(collector, str):
        written.report((*path, "collector"), "expected the name of a collector")
        collector = name
    own = {key: value for key, value in options.items() if key != "collector"}
    problems = tuple(problem for problem in written.problems if problem.path[:2] == path)
    return SourceSpec(name, collector, own, written.origin, problems)


def _set(
    variable: Variable, value: str, specs: dict[str, SourceSpec], origin: Origin, is_named: bool
) -> None:
    """Set the variable's key in each source of its collector; if there is none, add one.

    `is_named`: the file has a source with the collector's name; if that is `off`, it stays off.
    """
    name = variable.collector
    if not is_named and name not in {spec.collector for spec in specs.values()}:
        origin.locations["sources", name] = Location("environment")
        specs[name] = SourceSpec(name, name, {}, origin)
    for spec in specs.values():
        if spec.collector == name:
            path = ("sources", spec.name, variable.key)
            origin.locations[path] = Location("environment", None, variable.name)
            origin.textual.add(path)
            options = spec.options | {variable.key: value}
            problems = tuple(_outside(path, spec.problems))
            specs[spec.name] = replace(spec, options=options, problems=problems)


def _check(settings: Settings, converter: Converter) -> None:
    """Report problems that involve several values."""
    _check_bind(settings.server, converter)
    if settings.server.tls:
        _check_tls(settings.server.tls, converter)
    seen = set()
    for index, agent in enumerate(settings.agents):
        if (agent.namespace, agent.name) in seen:
            converter.report(("agents", index), f'the agent "{agent.name}" is declared twice')
        seen.add((agent.namespace, agent.name))
    if settings.findings == "off":
        _check_off(settings, converter)
    _check_rules(settings, converter)
    if settings.alertmanager:
        _check_client_tls(settings.alertmanager, converter)
    for index, webhook in enumerate(settings.webhooks):
        _check_webhook(webhook, ("webhooks", index), converter)
        if webhook.name in {one.name for one in settings.webhooks[:index]}:
            converter.report(("webhooks", index, "name"), f'"{webhook.name}" is given twice')


def _check_off(settings: Settings, converter: Converter) -> None:
    for name in ("alertmanager", "webhooks"):
        if getattr(settings, name):
            converter.report((name,), 'there are no findings to send while findings is "off"')


def _check_rules(settings: Settings, converter: Converter) -> None:
    """Report names of rules that no package has."""
    named: dict[Path, str] = {}
    if settings.findings != "off":
        named |= {("findings", "rules", name): name for name in settings.findings.rules}
        for index, ignored in enumerate(settings.findings.ignore):
            if "*" not in ignored.rule:
                named["findings", "ignore", index, "rule"] = ignored.rule
    for index, webhook in enumerate(settings.webhooks):
        for at, name in enumerate(webhook.rules):
            named["webhooks", index, "rules", at] = name
    if not named:
        return
    from telemetron.diagnosis.rules import RULES  # a run that names no rule need not import them

    _check_names("rule", named, {*RULES, *installed.rules()}, converter)


def _check_names(
    what: str, named: Mapping[Path, str], known: Collection[str], converter: Converter
) -> None:
    for path, name in named.items():
        if name not in known:
            converter.report(path, unknown(what, name, known))


def _check_webhook(webhook: WebhookSettings, path: Path, converter: Converter) -> None:
    names = {(*path, "severities", at): name for at, name in enumerate(webhook.severities)}
    _check_names("severity", names, SEVERITIES, converter)
    names = {(*path, "sections", at): name for at, name in enumerate(webhook.sections)}
    _check_names("section", names, SECTIONS, converter)
    if trouble := secret_trouble(webhook.secret):
        converter.report((*path, "secret"), trouble)


def _check_client_tls(alertmanager: AlertmanagerSettings, converter: Converter) -> None:
    try:
        alertmanager.tls.context()
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or error
        converter.report(("alertmanager", "tls"), f"cannot load its certificates: {reason}")


def _check_bind(server: ServerSettings, converter: Converter) -> None:
    auth = server.auth
    if is_loopback(server.host) or auth == "none":
        return
    missing = [name for name in ("read", "write") if getattr(auth, name) is None]
    if missing:
        converter.report(
            ("server", "host"),
            f"{server.host} can be reached from other machines: set both tokens under server.auth"
            " (read_file: FILE, write_file: FILE), or auth: none to let everyone read and write;"
            f" missing: {' and '.join(missing)}",
        )


def _check_tls(tls: TlsSettings, converter: Converter) -> None:
    # Without a password OpenSSL would prompt for one.
    password = tls.keyfile_password.value if tls.keyfile_password else ""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certfile, tls.keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or error
        converter.report(("server", "tls"), f"cannot load the certificate or its key: {reason}")
