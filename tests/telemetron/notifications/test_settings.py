"""The keys `alertmanager` and `webhooks`: what is refused, and how it is said."""

from pathlib import Path

import pytest

from telemetron.config.settings import load, parse
from tests.conftest import TLS
from tests.telemetron.notifications.receiver import SECRET

HOOK = f"name: ops, url: 'https://example.org/hook', secret: {SECRET}"


def problems(tmp_path: Path, config: str) -> list[str]:
    file = tmp_path / "t.yaml"
    file.write_text(config)
    found = parse(str(file), {})[2]
    return [str(one).removeprefix(f"{file}:") for one in found]


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    secret, password = tmp_path / "secret", tmp_path / "password"
    secret.write_text(f"{SECRET}\n")
    password.write_text("hunter2\n")
    file = tmp_path / "t.yaml"
    file.write_text(f"""
server: {{public_url: "https://telemetron.example/t/"}}
alertmanager:
  urls: ["http://10.0.0.1:9093", "https://am-1.monitoring.svc/prefix"]
  username: telemetron
  password_file: {password}
  tls: {{cafile: {TLS / "cert.pem"}}}
webhooks:
  - name: ops
    url: "http://192.168.0.7/hook?x=1"
    secret_file: {secret}
    rules: [NoConsumers]
    severities: [critical]
    sections: [queues, sources]
    changes: true
""")
    settings = load(str(file), {})
    (webhook,) = settings.webhooks
    assert webhook.secret.value == SECRET
    assert settings.alertmanager is not None
    assert settings.alertmanager.password is not None
    assert settings.alertmanager.password.value == "hunter2"
    assert settings.server.link_base == "https://telemetron.example/t"
    assert "192.168" not in repr(settings)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("webhooks: [{name: ops, url: 'http://a'}]", '"secret" is missing'),
        (f"webhooks: [{{{HOOK}, rules: [NoConsumer]}}]", 'did you mean "NoConsumers"?'),
        (f"webhooks: [{{{HOOK}, severities: [critcal]}}]", 'did you mean "critical"?'),
        (f"webhooks: [{{{HOOK}, sections: [queue]}}]", 'did you mean "queues"?'),
        (f"webhooks: [{{{HOOK}}}, {{{HOOK}}}]", 'webhooks[1].name: "ops" is given twice'),
        ("webhooks: [{name: a, url: 'http://a', secret: hunter2}]", "openssl rand -base64 32"),
        (f"webhooks: [{{name: a, url: 'ftp://a', secret: {SECRET}}}]", "expected: an http://"),
        (f"webhooks: [{{name: a, url: 'http://u:p@a', secret: {SECRET}}}]", "without user"),
        (f"webhooks: [{{name: A b, url: 'http://a', secret: {SECRET}}}]", "1 to 63 of a-z"),
        ("alertmanager: {urls: []}", "alertmanager.urls"),
        ("alertmanager: {urls: ['http://u:p@am:9093']}", "without user"),
        ("alertmanager: {urls: ['http://am'], username: x}", "belong together"),
        (
            "alertmanager: {urls: ['http://am'], username: x, password: y, token: z}",
            "keep one of username and token",
        ),
        ("alertmanager: {urls: ['http://am'], tls: {cafile: /none}}", "cannot load"),
        ("{findings: 'off', alertmanager: {urls: ['http://am']}}", "no findings to send"),
        ("sources: {notifications: {}}", "reserved"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(tmp_path: Path, config: str, said: str) -> None:
    (problem,) = problems(tmp_path, config)
    assert said in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("server", "base"),
    [
        ("{port: 9000}", "http://127.0.0.1:9000"),
        ("{host: '::1', root_path: /t}", "http://[::1]:8080/t"),
    ],
)
def test_links_are_made_of_the_host_if_nothing_is_configured(
    tmp_path: Path, server: str, base: str
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(f"server: {server}")
    assert load(str(file), {}).server.link_base == base
