"""A provider of models on loopback that the test controls; it speaks as OpenAI does."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PROMPT_TOKENS, COMPLETION_TOKENS = 10, 20


class Mood(NamedTuple):
    """How the provider answers."""

    status: int = 200
    delay: float = 0.0


class Upstream(ThreadingHTTPServer):
    """Serves `/NAME/v1/chat/completions`; `moods` says how, by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.moods: dict[str, Mood] = {}
        self.calls: list[str] = []

    def base(self, name: str) -> str:
        """The api_base of a deployment."""
        return f"http://127.0.0.1:{self.server_address[1]}/{name}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        name = self.path.split("/")[1]
        mood = self.server.moods.get(name, Mood())
        self.server.calls.append(name)
        time.sleep(mood.delay)
        said = _completion() if mood.status == 200 else {"error": {"message": "as it was told"}}
        body = json.dumps(said).encode()
        self.send_response(mood.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _completion() -> dict[str, Any]:
    message = {"role": "assistant", "content": "yes"}
    total = PROMPT_TOKENS + COMPLETION_TOKENS
    return {
        "id": "completion",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": total,
        },
    }


@contextmanager
def upstream() -> Iterator[Upstream]:
    """A provider, ended with the context."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
