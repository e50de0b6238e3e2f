"""A provider of models that runs on loopback and speaks as OpenAI does: it summarises."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from telemetron.demo.text import summarise, words

FLAKY_EVERY = 4
"""The flaky deployment refuses every so many calls."""


class Provider(ThreadingHTTPServer):
    """Serves `/DEPLOYMENT/v1/chat/completions` in a thread of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls = count(1)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def base(self, deployment: str) -> str:
        """The api_base of a deployment."""
        return f"http://127.0.0.1:{self.server_address[1]}/{deployment}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        flaky = self.path.startswith("/flaky/") and next(self.server.calls) % FLAKY_EVERY == 0
        said = {"error": {"message": "too many requests"}} if flaky else _complete(asked)
        body = json.dumps(said).encode()
        self.send_response(429 if flaky else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _complete(asked: dict[str, Any]) -> dict[str, Any]:
    text = asked["messages"][-1]["content"]
    content = "\n".join(summarise(text))
    read, written = len(words(text)), len(words(content))
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    message = {"role": "assistant", "content": content}
    return {
        "id": "completion",
        "object": "chat.completion",
        "created": 0,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
