from typing import Any

from telemetron.web.pages.headers import Page, etag_of, send_page

BODY = "ü".encode()


async def sent(
    page: Page, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body that are sent for a request."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await send_page({"method": method, "headers": raw}, send, page)
    start, end = messages
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, end["body"]


async def test_a_client_that_has_the_page_gets_no_body() -> None:
    page = Page(BODY, "text/css", {"x-more": "1"}, etag_of(BODY))
    status, headers, body = await sent(page)
    assert (status, body) == (200, BODY)
    assert headers == {
        "content-type": "text/css; charset=utf-8",
        "x-more": "1",
        "etag": page.etag,
        "cache-control": "no-cache",
        "content-length": "2",
    }
    status, headers, body = await sent(page, if_none_match=f'"x", {page.etag}')
    assert (status, body) == (304, b"")
    assert headers == {"etag": page.etag, "cache-control": "no-cache"}
    assert (await sent(page, if_none_match='W/"x"'))[0] == 200


async def test_a_page_without_an_etag_is_always_sent() -> None:
    page = Page(BODY, "application/json", {})
    assert (await sent(page, if_none_match="*"))[0] == 200
    _, headers, body = await sent(page, method="HEAD")
    assert headers == {"content-type": "application/json", "content-length": "2"}
    assert body == b""


def test_equal_bytes_have_the_same_etag() -> None:
    assert etag_of(b"x") == etag_of(b"x") != etag_of(b"y")
