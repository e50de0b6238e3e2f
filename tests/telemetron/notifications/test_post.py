"""One request: redirects are not followed, and whatever goes wrong is said in our own words."""

import asyncio
import ssl

import pytest

from telemetron.notifications.post import Answer, client, origin, post
from tests.conftest import TLS, Serving
from tests.ports import free_port
from tests.telemetron.notifications.receiver import CUT, HANG, receiving


async def sent(url: str, verify: ssl.SSLContext | None = None, timeout: float = 15) -> Answer:
    async with await asyncio.to_thread(client, verify) as http:
        return await post(http, url, b"{}", {}, timeout)


@pytest.mark.parametrize(
    ("answer", "reason", "message"),
    [
        (204, "", "answered 204"),
        (302, "BadAnswer", "answered 302 Found; redirects are not followed"),
        (401, "Unauthorized", "answered 401 Unauthorized"),
        (410, "NotFound", "answered 410 Gone"),
        (429, "RateLimited", "answered 429 Too Many Requests"),
        (500, "BadAnswer", "answered 500 Internal Server Error"),
        (CUT, "BadAnswer", "no whole HTTP answer"),
        (HANG, "Timeout", "no answer within 0.2 s"),
    ],
)
async def test_each_answer_has_a_reason(answer: int | str, reason: str, message: str) -> None:
    async with receiving() as receiver:
        receiver.always = answer
        receiver.headers = {"location": f"{receiver.url}/other", "retry-after": "7"}
        found = await sent(receiver.url, timeout=0.2 if answer == HANG else 15)
        assert {one.path for one in receiver.requests} == {"/"}
    assert found.reason == reason
    assert found.message.startswith(message)
    assert found.retry_after == (7 if answer in (302, 401, 410, 429, 500) else None)


async def test_a_port_where_nothing_listens() -> None:
    found = await sent(f"http://127.0.0.1:{free_port()}/secret")
    assert (found.status, found.reason) == (None, "Unreachable")
    assert "secret" not in found.message


async def test_a_certificate_must_be_trusted(serving: Serving) -> None:
    tls = f"{{certfile: {TLS}/cert.pem, keyfile: {TLS}/key.pem, keyfile_password: hunter2}}"
    async with serving(f"server: {{tls: {tls}}}") as live:
        refused = await sent(live.url)
        trusting = await asyncio.to_thread(ssl.create_default_context, cafile=str(TLS / "cert.pem"))
        reached = await sent(live.url, trusting)
    assert refused.message.startswith("its certificate is not trusted")
    assert reached.status == 405


def test_only_the_origin_of_a_url_is_shown() -> None:
    assert origin("https://u:p@hooks.example:8443/T0/secret?x=y") == "https://hooks.example:8443"
