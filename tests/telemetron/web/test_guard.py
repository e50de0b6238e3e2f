import pytest

from telemetron.config.settings import AuthSettings, Secret, ServerSettings
from telemetron.http import HttpProblem
from telemetron.web.guard import Guard

TOKENS = AuthSettings(read=Secret("r" * 20), write=Secret("w" * 20))
ALL = AuthSettings(read=Secret("r" * 20), write=Secret("w" * 20), metrics=Secret("m" * 20))


def scope(version="1.1", **headers):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "http_version": version, "headers": raw}


def status(guard, role, **headers):
    try:
        guard.check(scope(**headers), role)
    except HttpProblem as problem:
        return problem.status
    return 200


@pytest.mark.parametrize(
    ("authorization", "role", "expected"),
    [
        ("Bearer " + "r" * 20, "read", 200),
        ("bearer " + "r" * 20, "read", 200),
        ("Bearer " + "w" * 20, "write", 200),
        ("Bearer " + "w" * 20, "read", 403),
        ("Bearer " + "r" * 20, "write", 403),
        ("Bearer wrong", "read", 401),
        ("Bearer ", "read", 401),
        ("Basic " + "r" * 20, "read", 401),
        ("r" * 20, "read", 401),
        ("", "read", 401),
    ],
)
def test_tokens(authorization, role, expected):
    guard = Guard(ServerSettings(host="0.0.0.0", auth=TOKENS))
    assert status(guard, role, authorization=authorization) == expected


@pytest.mark.parametrize(
    ("token", "role", "expected"),
    [
        ("m", "metrics", 200),
        ("r", "metrics", 403),
        ("w", "metrics", 403),
        ("m", "read", 403),
        ("m", "write", 403),
        ("x", "metrics", 401),
    ],
)
def test_a_token_opens_only_its_role(token, role, expected):
    guard = Guard(ServerSettings(host="0.0.0.0", auth=ALL))
    assert status(guard, role, authorization="Bearer " + token * 20) == expected


def test_without_a_metrics_token_the_read_token_opens_the_metrics():
    guard = Guard(ServerSettings(host="0.0.0.0", auth=TOKENS))
    assert status(guard, "metrics", authorization="Bearer " + "r" * 20) == 200
    assert status(guard, "metrics", authorization="Bearer " + "w" * 20) == 403
    assert status(guard, "metrics") == 401


def test_a_metrics_token_closes_the_other_roles():
    guard = Guard(ServerSettings(auth=AuthSettings(metrics=Secret("m" * 20))))
    assert status(guard, "metrics", host="localhost", authorization="Bearer " + "m" * 20) == 200
    assert status(guard, "read", host="localhost") == 401


def test_one_token_of_two_roles_opens_both():
    auth = AuthSettings(read=Secret("r" * 20), metrics=Secret("r" * 20))
    guard = Guard(ServerSettings(host="0.0.0.0", auth=auth))
    for role in ("read", "metrics"):
        assert status(guard, role, authorization="Bearer " + "r" * 20) == 200


def test_a_401_says_which_scheme():
    guard = Guard(ServerSettings(host="0.0.0.0", auth=TOKENS))
    with pytest.raises(HttpProblem) as raised:
        guard.check(scope(), "read")
    assert raised.value.headers["www-authenticate"].startswith("Bearer")
    assert "r" * 20 not in raised.value.detail


def test_with_only_one_token_the_other_role_is_denied():
    guard = Guard(ServerSettings(auth=AuthSettings(read=Secret("r" * 20))))
    assert status(guard, "read", host="localhost", authorization="Bearer " + "r" * 20) == 200
    assert status(guard, "write", host="localhost", authorization="Bearer " + "r" * 20) == 403
    assert status(guard, "write", host="localhost") == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 421),
        ("localhost.evil.example:80", 421),
        ("localhost:80.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_on_loopback_the_host_must_be_this_machine(host, expected):
    assert status(Guard(ServerSettings()), "read", host=host) == expected


def test_http_1_0_needs_no_host_but_a_foreign_one_is_refused():
    guard = Guard(ServerSettings())
    guard.check(scope("1.0"), "read")
    for version, headers in (("1.1", {}), ("1.0", {"host": "evil.example"})):
        with pytest.raises(HttpProblem) as raised:
            guard.check(scope(version, **headers), "read")
        assert raised.value.status == 421


def test_beyond_loopback_any_host_is_accepted():
    assert (
        status(Guard(ServerSettings(host="0.0.0.0", auth="none")), "read", host="any.example")
        == 200
    )
