"""Bare ASGI applications that do only the indispensable work: the limit on uvicorn.

`python -m uvicorn bench.bare:read` sends the bytes of the file BENCH_BODY with the headers in
BENCH_HEADERS; `bench.bare:beat` reads the body and answers 204.
"""

import json
import os
from pathlib import Path
from typing import Any

_headers = json.loads(os.environ.get("BENCH_HEADERS", "[]"))
_body = Path(os.environ.get("BENCH_BODY", os.devnull)).read_bytes()
_start = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(name.encode(), value.encode()) for name, value in _headers],
}
_whole = {"type": "http.response.body", "body": _body}
_no_content = {"type": "http.response.start", "status": 204, "headers": []}
_empty = {"type": "http.response.body", "body": b""}


async def read(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with the same bytes."""
    await send(_start)
    await send(_whole)


async def beat(scope: Any, receive: Any, send: Any) -> None:
    """Answer 204 after the body has arrived."""
    while (await receive()).get("more_body"):
        pass
    await send(_no_content)
    await send(_empty)
