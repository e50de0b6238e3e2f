"""The configuration: what a file, the environment and the command line make of it together."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, field

from telemetron.collector import Collector, Config
from telemetron.config.settings import (
    ConfigError,
    Secret,
    Settings,
    SourceSpec,
    configure,
    load,
)
from tests.conftest import TLS


class Topic(Struct, frozen=True, forbid_unknown_fields=True):
    topic: str
    groups: list[str] = []


class KafkaConfig(Config, frozen=True):
    bootstrap_servers: Annotated[list[str], Meta(min_length=1)]
    queues: list[Topic] = field(default_factory=list)
    interval_seconds: Annotated[float, Meta(gt=0)] = 5.0
    password: Secret | None = None
    options: dict[str, int] = field(default_factory=dict)


async def idle(config: Config, output: Any) -> None:
    raise NotImplementedError


KAFKA = Collector(
    name="kafka",
    description="Queues.",
    config=KafkaConfig,
    sections=("queues",),
    max_age_seconds=lambda config: config.interval_seconds,
    run=idle,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, so that a file has a short name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Any:
    """Loads a file of this text."""

    def read(text: str, environ: dict[str, str] | None = None, **options: Any) -> Settings:
        (folder / "t.yaml").write_text(text)
        return load("t.yaml", environ or {}, options)

    return read


@pytest.fixture
def wrong(read: Any) -> Any:
    """The problems of a file of this text, one line each."""

    def wrong(text: str, environ: dict[str, str] | None = None, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, environ, **options)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return [str(problem) for problem in caught.value.problems]

    return wrong


def source_problems(spec: SourceSpec) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configure(spec, KAFKA)
    return [str(problem) for problem in caught.value.problems]


# what it says


def test_without_a_file_heartbeats_are_on_and_all_else_is_off() -> None:
    settings = load(None, {})
    assert settings.id == "telemetron"
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.server.auth == Settings().server.auth
    assert settings.log.level == "info"
    assert list(settings.sources) == ["heartbeats"]
    assert settings.off == ["kafka", "kubernetes", "litellm", "rabbitmq"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "server:\nagents:\nsources:\nlog:\n"])
def test_an_empty_key_has_its_default(read: Any, text: str) -> None:
    assert list(read(text).sources) == ["heartbeats"]
    assert read(text).server == Settings().server


def test_a_whole_file(read: Any, folder: Path) -> None:
    (folder / "read").write_text("  r3ad\n")
    (folder / "write").write_text("wr1te\n")
    settings = read("""
id: prod
server: {host: 0.0.0.0, port: 80, root_path: /t, auth: {read_file: read, write_file: write}}
log: {level: debug}
agents:
  - {name: planner, namespace: agents, deployment_name: planner, max_parallel_invocations: 4}
  - {name: planner, description: of no namespace, models: [m], queues: [q]}
sources:
  kafka: {bootstrap_servers: ["broker:9092"], queues: [{topic: tasks, groups: [workers]}]}
  orders: {collector: kafka, bootstrap_servers: ["other:9092"]}
  litellm:
""")
    assert settings.id == "prod"
    assert (settings.server.host, settings.server.port, settings.server.root_path) == (
        "0.0.0.0",
        80,
        "/t",
    )
    assert settings.server.auth.read.value == "r3ad"
    assert settings.server.auth.write.value == "wr1te"
    assert settings.log.level == "debug"
    assert [agent.namespace for agent in settings.agents] == ["agents", None]
    assert settings.agents[0].max_parallel_invocations == 4
    assert settings.agents[1].models == ["m"]
    collectors = {name: spec.collector for name, spec in settings.sources.items()}
    assert collectors == {
        "heartbeats": "heartbeats",
        "kafka": "kafka",
        "litellm": "litellm",
        "orders": "kafka",
    }
    assert settings.off == ["kubernetes", "rabbitmq"]
    orders = configure(settings.sources["orders"], KAFKA)
    assert orders == KafkaConfig(bootstrap_servers=["other:9092"])
    tasks = configure(settings.sources["kafka"], KAFKA)
    assert tasks.queues == [Topic("tasks", ["workers"])]


def test_tokens_are_known_by_their_role(read: Any) -> None:
    tokens = read("server: {auth: {read: r, metrics: m}}").server.auth.tokens
    assert {role: token.value for role, token in tokens.items()} == {"read": "r", "metrics": "m"}


@pytest.mark.parametrize("off", ["off", "false", '"off"'])
def test_a_source_can_be_off(read: Any, off: str) -> None:
    settings = read(f"sources: {{heartbeats: {off}, kafka: {{}}, kubernetes: {off}}}")
    assert list(settings.sources) == ["kafka"]
    assert settings.off == ["heartbeats", "kubernetes", "litellm", "rabbitmq"]


def test_a_heartbeats_source_of_another_name_replaces_the_default(read: Any) -> None:
    settings = read("sources: {beats: {collector: heartbeats}}")
    assert list(settings.sources) == ["beats"]
    assert "heartbeats" not in settings.off


# what is wrong


def test_all_problems_are_reported_with_their_lines(wrong: Any) -> None:
    assert wrong("""id: 5
server:
  prot: 80
  port: "80"
log: {level: loud}
agents:
  - name: planner
    max_parallel_invocations: 0
    description: no
  - {nme: x}
servr: {}
""") == [
        "t.yaml:1: id: expected str, got int (quote it)",
        't.yaml:3: server.prot: unknown key; did you mean "port"?'
        " (known: auth, host, port, probe_port, public_url, root_path, tls)",
        "t.yaml:4: server.port: expected int, got str",
        't.yaml:5: log.level: expected "trace" or "debug" or "info" or "warning" or "error"',
        "t.yaml:8: agents[0].max_parallel_invocations: expected int >= 1",
        "t.yaml:9: agents[0].description: expected str or null, got bool (quote it)",
        't.yaml:10: agents[1].nme: unknown key; did you mean "name"? (known: deployment_name,'
        " description, max_parallel_invocations, models, name, namespace, queues)",
        't.yaml:10: agents[1]: "name" is missing: Its name.',
        't.yaml:11: servr: unknown key; did you mean "server"?'
        " (known: agents, alertmanager, findings, history, id, log, metrics, server, sources,"
        " webhooks)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: 5\n", "t.yaml:1: server: expected mapping, got int"),
        ("server: {port: 65536}\n", "t.yaml:1: server.port: expected int <= 65535"),
        ("server: {port: true}\n", "t.yaml:1: server.port: expected int, got bool"),
        ("server: {host: ''}\n", "t.yaml:1: server.host: expected str of length >= 1"),
        ("server: {auth: None}\n", 't.yaml:1: server.auth: expected mapping or "none"'),
        ("server: {auth: 5}\n", "t.yaml:1: server.auth: expected str or mapping, got int"),
        (
            "server: {auth: {read: 5}}\n",
            "t.yaml:1: server.auth.read: expected secret, got int (quote it)",
        ),
        ("server: {root_path: t/}\n", "t.yaml:1: server.root_path: expected: Path that a proxy"),
        ("agents: {}\n", "t.yaml:1: agents: expected list, got mapping"),
        ("agents: [5]\n", "t.yaml:1: agents[0]: expected mapping, got int"),
        ("agents: [{name: a}, {name: a}]\n", 't.yaml:1: agents[1]: the agent "a" is declared'),
        (
            "agents:\n- name: a\n  models: [x,\n    5]\n",
            "t.yaml:4: agents[0].models[1]: expected str",
        ),
        ("sources: []\n", "t.yaml:1: sources: expected a mapping of sources by name"),
        ("sources:\n  My_Kafka: {}\n", "t.yaml:2: sources.My_Kafka: expected a name of only a-z"),
    ],
)
def test_each_mistake_is_reported_in_one_line(wrong: Any, text: str, problem: str) -> None:
    problems = wrong(text)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


RULE = "findings: {rules: {NoConsumer: {hold_seconds: 5}}}\n"


def test_a_rule_that_nobody_knows_is_refused_with_the_nearest_and_the_known(wrong: Any) -> None:
    (problem,) = wrong(RULE)
    assert problem.startswith(
        't.yaml:1: findings.rules.NoConsumer: unknown rule; did you mean "NoConsumers"?'
        " (known: AgentFailing, AgentGone, "
    )


@pytest.mark.parametrize(
    ("ignored", "problem"),
    [
        ("{rule: NoConsumers}", None),
        ("{rule: No*}", None),
        ("{key: kafka/*}", None),
        ("{rule: Noconsumers}", 'unknown rule; did you mean "NoConsumers"?'),
        ("{rule: x}", "unknown rule (known: "),
    ],
)
def test_what_is_ignored_names_rules_that_there_are(
    read: Any, wrong: Any, ignored: str, problem: str | None
) -> None:
    text = f"findings:\n  ignore:\n  - {{rule: '*'}}\n  - {ignored}\n"
    if problem is None:
        assert len(read(text).findings.ignore) == 2
    else:
        (said,) = wrong(text)
        assert said.startswith(f"t.yaml:4: findings.ignore[1].rule: {problem}")


def test_a_rule_can_be_off_and_so_can_all(read: Any) -> None:
    assert read("findings: {rules: {ModelDegraded: 'off'}}").findings.rules == {
        "ModelDegraded": "off"
    }
    assert read("findings: 'off'").findings == "off"


# variables


def test_a_variable_may_be_a_number_but_not_part_of_one(read: Any, wrong: Any) -> None:
    assert read('server: {port: "${PORT}"}', {"PORT": "81"}).server.port == 81
    for port, value in (("${PORT}", "x1"), ("8${PORT}", "1")):
        assert wrong(f'server: {{port: "{port}"}}', {"PORT": value}) == [
            "t.yaml:1: server.port: expected int, got str"
        ]


def test_an_unset_variable_is_reported_once(wrong: Any) -> None:
    problems = wrong("agents: [{name: '${A}', models: ['${B}']}]")
    assert problems == [
        "t.yaml:1: agents[0].name: the environment variable A is not set",
        "t.yaml:1: agents[0].models[0]: the environment variable B is not set",
    ]


# secrets


def test_secrets_are_never_shown(read: Any) -> None:
    text = "server: {auth: {read: '${TOKEN}', write: hunter2}}\nsources: {x: {key: hunter2}}"
    settings = read(text, {"TOKEN": "hunter1"})
    assert settings.server.auth.read.value == "hunter1"
    shown = f"{settings} {settings!r} {settings.server.auth.write} {settings.sources['x']!r}"
    assert "hunter" not in shown
    assert settings.server.auth.write.matches(b"hunter2")
    assert not settings.server.auth.write.matches(b"hunter1")
    assert not settings.server.auth.write.matches("hünter2".encode())


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ("read_file: none.txt", "read_file: cannot read none.txt: No such file or directory"),
        ("read_file: empty", "read_file: expected one line of text in empty"),
        ("read_file: two", "read_file: expected one line of text in two"),
        ("read_file: binary", "read_file: cannot read 'binary': not text in UTF-8"),
        ("read_file: 5", "read_file: expected str, got int (quote it)"),
        ("read_file: '${NO}'", "read_file: the environment variable NO is not set"),
        ("read: ''", "read: expected one line of text that is not empty"),
        ('read: "hunter\\n2"', "read: expected one line of text that is not empty"),
        ("read: hunter2, read_file: good", 'read_file: "read" is given too; keep one of them'),
        ("reed: hunter2", 'reed: unknown key; did you mean "read"?'),
    ],
)
def test_problems_of_secrets_name_the_file_not_the_content(
    wrong: Any, folder: Path, auth: str, problem: str
) -> None:
    contents = {
        "empty": b" \n",
        "two": b"hunter2\nhunter3\n",
        "binary": b"hunter\xff",
        "good": b"x",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    problems = wrong(f"server: {{auth: {{{auth}}}}}")
    assert len(problems) == 1
    assert problems[0].startswith(f"t.yaml:1: server.auth.{problem}")
    assert "hunter" not in problems[0]


def test_a_token_written_as_auth_is_not_shown(wrong: Any) -> None:
    assert "hunter2" not in "".join(wrong("server: {auth: hunter2}"))


# the environment


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(read: Any) -> None:
    text = "server: {port: 1, host: 127.0.0.1}\nlog: {level: error}"
    environ = {"SERVER_PORT": "2", "SERVER_HOST": "127.0.0.2", "LOG_LEVEL": "DEBUG"}
    settings = read(text, environ)
    assert (settings.server.host, settings.server.port) == ("127.0.0.2", 2)
    assert settings.log.level == "debug"
    settings = read(text, environ, port=3, host="::1", root_path="/x")
    assert (settings.server.host, settings.server.port) == ("::1", 3)
    assert settings.server.root_path == "/x"


def test_an_empty_variable_is_not_set() -> None:
    environ = {"SERVER_PORT": "", "LOG_LEVEL": "", "TELEMETRON_KUBERNETES": ""}
    settings = load(None, environ)
    assert (settings.server, settings.log) == (Settings().server, Settings().log)
    assert list(settings.sources) == ["heartbeats"]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"SERVER_PORT": "tcp://10.0.0.1:80"}, "SERVER_PORT: expected int, got str"),
        ({"SERVER_PORT": "70000"}, "SERVER_PORT: expected int <= 65535"),
        ({"LOG_LEVEL": "loud"}, 'LOG_LEVEL: expected "trace" or'),
        ({"SERVER_HOST": "0.0.0.0"}, "SERVER_HOST: 0.0.0.0 can be reached from other machines"),
    ],
)
def test_a_variable_that_does_not_fit_is_reported_by_name(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert str(caught.value).startswith(f"environment: {problem}")


def test_an_option_that_does_not_fit_is_reported_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {"root_path": "x"})
    assert str(caught.value).startswith("command line: --root-path: expected: Path that")


def test_a_variable_does_not_hide_a_wrong_table(wrong: Any) -> None:
    assert wrong("server: 5", {"SERVER_PORT": "1"}) == [
        "t.yaml:1: server: expected mapping, got int"
    ]


def test_the_environment_switches_sources_on() -> None:
    settings = load(
        None,
        {
            "TELEMETRON_KUBERNETES": "in-cluster",
            "TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": "a:9092, b:9092,",
            "TELEMETRON_LITELLM_URL": "http://llm:4000",
            "TELEMETRON_LITELLM_KEY_FILE": "/key",
        },
    )
    assert {name: spec.options for name, spec in settings.sources.items()} == {
        "heartbeats": {},
        "kafka": {"bootstrap_servers": "a:9092, b:9092,"},
        "kubernetes": {"config": "in-cluster"},
        "litellm": {"url": "http://llm:4000", "key_file": "/key"},
    }
    assert settings.off == ["rabbitmq"]
    kafka = configure(settings.sources["kafka"], KAFKA)
    assert kafka == KafkaConfig(bootstrap_servers=["a:9092", "b:9092"])


VARIABLES = [
    ("kubernetes", "config", "TELEMETRON_KUBERNETES", "kubeconfig"),
    ("kafka", "bootstrap_servers", "TELEMETRON_KAFKA_BOOTSTRAP_SERVERS", "a:9092"),
    ("litellm", "url", "TELEMETRON_LITELLM_URL", "http://llm:4000"),
    ("litellm", "key_file", "TELEMETRON_LITELLM_KEY_FILE", "/key"),
]


@pytest.mark.parametrize(("collector", "key", "variable", "value"), VARIABLES)
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{}", {"COLLECTOR": {}}),
        ("COLLECTOR:", {"COLLECTOR": {}}),
        ("COLLECTOR: {x: 1}", {"COLLECTOR": {"x": 1}}),
        ("COLLECTOR: {KEY: other, x: 1}", {"COLLECTOR": {"x": 1}}),
        ("COLLECTOR: {KEY: '${NOT_SET}'}", {"COLLECTOR": {}}),
        ("prod: {collector: COLLECTOR, x: 1}", {"prod": {"x": 1}}),
        ("prod: {collector: COLLECTOR}\n  COLLECTOR:", {"prod": {}, "COLLECTOR": {}}),
        ("prod: {collector: COLLECTOR}\n  COLLECTOR: off", {"prod": {}}),
        ("COLLECTOR: off", {}),
        ("COLLECTOR: {collector: heartbeats}", {}),
    ],
)
def test_a_variable_sets_its_key_in_each_source_of_its_collector(
    read: Any,
    written: str,
    expected: dict[str, dict[str, Any]],
    collector: str,
    key: str,
    variable: str,
    value: str,
) -> None:
    written = written.replace("COLLECTOR", collector).replace("KEY", key)
    settings = read(f"sources:\n  {written}\n", {variable: value})
    found = {
        name.replace(collector, "COLLECTOR"): spec
        for name, spec in settings.sources.items()
        if spec.collector == collector
    }
    assert {name: spec.options for name, spec in found.items()} == {
        name: options | {key: value} for name, options in expected.items()
    }
    assert not any(spec.problems for spec in found.values())


def test_a_variable_wins_over_a_value_that_is_wrong(read: Any) -> None:
    text = "server: {port: '${NOT_SET}'}\nsources: {kafka: {bootstrap_servers: ['${NOT_SET}']}}"
    environ = {"SERVER_PORT": "81", "TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": "a, b"}
    settings = read(text, environ)
    assert settings.server.port == 81
    kafka = configure(settings.sources["kafka"], KAFKA)
    assert kafka.bootstrap_servers == ["a", "b"]


def test_a_list_may_be_one_variable(read: Any) -> None:
    text = "sources: {kafka: {bootstrap_servers: '${BROKERS}'}}"
    settings = read(text, {"BROKERS": "a:9092, b:9092,"})
    kafka = configure(settings.sources["kafka"], KAFKA)
    assert kafka.bootstrap_servers == ["a:9092", "b:9092"]


def test_a_variable_that_does_not_fit_a_source_of_the_file_is_reported(read: Any) -> None:
    environ = {"TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": ","}
    spec = read("sources: {kafka: {interval_seconds: x}}", environ).sources["kafka"]
    assert source_problems(spec) == [
        "environment: TELEMETRON_KAFKA_BOOTSTRAP_SERVERS: expected list of length >= 1",
        "t.yaml:1: sources.kafka.interval_seconds: expected float, got str",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {root_path: /a/}", "server.root_path: expected: Path that a proxy strips"),
        ("history: {url: 'sqlite:///a#b'}", "history.url: expected: File of the history"),
        ("history: {url: 'sqlite:///a?mode=ro'}", "without ? or # in its name"),
    ],
)
def test_text_of_another_form_says_the_expected_form(wrong: Any, text: str, said: str) -> None:
    (problem,) = wrong(text)
    assert said in problem


def test_a_variable_that_does_not_fit_its_source_is_reported() -> None:
    environ = {"TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": " , "}
    spec = load(None, environ).sources["kafka"]
    assert source_problems(spec) == [
        "environment: TELEMETRON_KAFKA_BOOTSTRAP_SERVERS: expected list of length >= 1"
    ]


# one source's own


def test_problems_inside_a_source_belong_to_that_source(read: Any) -> None:
    settings = read("""
id: x
sources:
  heartbeats: {stall_after_seconds: 3}
  kafka:
    bootstrap_server: [a]
    bootstrap_servers: ["${BROKER}"]
    interval_seconds: 0
    queues:
      - {topic: a, grups: [b]}
      - topic: 5
    options: {a: b}
    password: 5
""")
    assert settings.id == "x"
    assert source_problems(settings.sources["kafka"]) == [
        't.yaml:6: sources.kafka.bootstrap_server: unknown key; did you mean "bootstrap_servers"?'
        " (known: bootstrap_servers, interval_seconds, options, password, password_file, queues)",
        "t.yaml:7: sources.kafka.bootstrap_servers[0]: the environment variable BROKER is not set",
        "t.yaml:8: sources.kafka.interval_seconds: expected float > 0.0",
        't.yaml:10: sources.kafka.queues[0].grups: unknown key; did you mean "groups"?'
        " (known: groups, topic)",
        "t.yaml:11: sources.kafka.queues[1].topic: expected str, got int (quote it)",
        "t.yaml:12: sources.kafka.options.a: expected int, got str",
        "t.yaml:13: sources.kafka.password: expected secret, got int (quote it)",
    ]


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("kafka: 5", "kafka: expected a mapping of keys, or off"),
        ("kafka: 0", "kafka: expected a mapping of keys, or off"),
        ("orders: off", "orders: expected a mapping of keys"),
        ("orders: {collector: 5}", "orders.collector: expected the name of a collector"),
        ("kafka: {}\n  kafka: {}", "kafka: given twice, again in line 3"),
        ("orders: '${X}'", "orders: the environment variable X is not set"),
        ("orders: {interval_seconds: .inf}", "orders.interval_seconds: expected a finite number"),
    ],
)
def test_a_wrong_source_is_reported(read: Any, written: str, problem: str) -> None:
    settings = read(f"sources:\n  {written}\n")
    name = written.partition(":")[0]
    assert source_problems(settings.sources[name])[0] == f"t.yaml:2: sources.{problem}"


def test_a_source_takes_each_secret_from_a_file_too(read: Any, folder: Path) -> None:
    (folder / "password").write_text("hunter2\n")
    settings = read("sources: {kafka: {bootstrap_servers: [a], password_file: password}}")
    assert configure(settings.sources["kafka"], KAFKA).password.value == "hunter2"
    (folder / "password").unlink()
    assert source_problems(settings.sources["kafka"]) == [
        "t.yaml:1: sources.kafka.password_file: cannot read password: No such file or directory"
    ]


def test_a_check_of_the_collector_is_a_problem_of_its_source(read: Any) -> None:
    class Ranged(Config, frozen=True):
        low: int = 0
        mode: Literal["a", "b"] = "a"

        def __post_init__(self) -> None:
            if self.low > 5:
                raise ValueError("low is above 5")

    collector = Collector(
        name="ranged",
        description="",
        config=Ranged,
        sections=(),
        max_age_seconds=lambda config: 1.0,
        run=idle,
    )
    spec = read("sources:\n  ranged: {low: 6}").sources["ranged"]
    with pytest.raises(ConfigError, match=r"^t\.yaml:2: sources\.ranged: low is above 5$"):
        configure(spec, collector)
    spec = read("sources:\n  ranged: {mode: c}").sources["ranged"]
    with pytest.raises(ConfigError, match=r'ranged\.mode: expected "a" or "b"$'):
        configure(spec, collector)


# who may reach it


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_tokens(read: Any, host: str) -> None:
    assert read(f"server: {{host: '{host}'}}").server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org", "::ffff:0:0", "1"])
@pytest.mark.parametrize(
    ("auth", "missing"),
    [("{}", "read and write"), ("{read: x}", "write"), ("{write: x}", "read")],
)
def test_any_other_address_needs_both_tokens(
    wrong: Any, host: str, auth: str, missing: str
) -> None:
    assert wrong(f"server:\n  host: '{host}'\n  auth: {auth}") == [
        f"t.yaml:2: server.host: {host} can be reached from other machines: set both tokens under"
        " server.auth (read_file: FILE, write_file: FILE), or auth: none to let everyone read"
        f" and write; missing: {missing}"
    ]


@pytest.mark.parametrize("auth", ["none", "{read: x, write: x}"])
def test_any_other_address_is_allowed_with_tokens_or_none(read: Any, auth: str) -> None:
    settings = read(f"server: {{host: 0.0.0.0, auth: {auth}}}")
    assert settings.server.host == "0.0.0.0"
    assert settings.server.auth == "none" or settings.server.auth.read.matches(b"x")


# HTTPS


@pytest.fixture
def certificate(folder: Path) -> str:
    """A certificate with its key, encrypted, as `server.tls`."""
    for name in ("cert.pem", "key.pem"):
        shutil.copy(TLS / name, folder)
    return "certfile: cert.pem, keyfile: key.pem"


def test_the_certificate_is_checked_before_the_server_starts(
    read: Any, wrong: Any, folder: Path, certificate: str
) -> None:
    (folder / "password").write_text("hunter2\n")
    tls = read(f"server: {{tls: {{{certificate}, keyfile_password_file: password}}}}").server.tls
    assert (tls.certfile, tls.keyfile) == ("cert.pem", "key.pem")
    assert tls.keyfile_password.value == "hunter2"
    unusable = "t.yaml:1: server.tls: cannot load the certificate or its key: "
    for broken in (certificate, certificate + ", keyfile_password: hunter3", "certfile: key.pem"):
        (problem,) = wrong(f"server: {{tls: {{{broken}}}}}")
        assert problem.startswith(unusable)
        assert "hunter" not in problem
    assert wrong("server: {tls: {certfile: no.pem}}") == [unusable + os.strerror(2)]
    assert wrong("server: {tls: {keyfile: key.pem}}") == [
        't.yaml:1: server.tls: "certfile" is missing: File of the certificate chain, PEM.'
    ]


def test_the_source_name_of_declared_agents_is_reserved(tmp_path: Path) -> None:
    file = tmp_path / "telemetron.yaml"
    file.write_text("sources:\n  configuration: {collector: heartbeats}\n")
    with pytest.raises(ConfigError, match="this name is reserved for the declared agents"):
        load(str(file), {})
