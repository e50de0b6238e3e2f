"""A model provider on loopback with the OpenAI API; its models summarise."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from telemetron.demo.text import summarise, words

FLAKY_EVERY = 4
"""The flaky deployment refuses one call in so many."""


class Provider(ThreadingHTTPServer):
    """Serve `/DEPLOYMENT/v1/chat/completions` in a thread."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls = count(1)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def base(self, deployment: str) -> str:
        """Return the api_base of a deployment."""
        return f"http://127.0.0.1:{self.server_address[1]}/{deployment}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        flaky = self.path.startswith("/flaky/") and next(self.server.calls) % FLAKY_EVERY == 0
        answer = {"error": {"message": "too many requests"}} if flaky else _complete(request)
        body = json.dumps(answer).encode()
        self.send_response(429 if flaky else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the demo's terminal shows only its own messages."""


def _complete(request: dict[str, Any]) -> dict[str, Any]:
    text = request["messages"][-1]["content"]
    content = "\n".join(summarise(text))
    read, written = len(words(text)), len(words(content))
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    message = {"role": "assistant", "content": content}
    return {
        "id": "completion",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
