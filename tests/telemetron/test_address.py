"""Addresses as the document shows them: no credentials, path or query."""

import pytest

from telemetron.address import is_loopback, join, of_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://litellm:4000", "litellm:4000"),
        ("http://litellm", "litellm:80"),
        ("https://eu.example/llm?x=1#y", "eu.example:443"),
        ("https://user:secret@eu.example:8443/llm", "eu.example:8443"),
        ("http://[::1]:4000/", "[::1]:4000"),
        ("https://u@[2001:db8::1]", "[2001:db8::1]:443"),
        ("HTTP://Example:80", "example:80"),
        ("ftp://example", None),
        ("http://:4000", None),
        ("http://example:99999", None),
        ("http://[::1", None),
        ("", None),
    ],
)
def test_of_a_url(url: str, address: str | None) -> None:
    assert of_url(url) == address


def test_ipv6_addresses_have_brackets() -> None:
    assert join("10.0.0.1", 443) == "10.0.0.1:443"
    assert join("fd00::1", 443) == "[fd00::1]:443"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_a_name_or_address_of_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", ""])
def test_any_other_address_is_not(host: str) -> None:
    assert not is_loopback(host)
