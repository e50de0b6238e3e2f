"""A real LiteLLM proxy, in a locked environment of its own in the cache.

`python -m tests.real.litellm.proxy` installs it and prints its program, for `make demo-full`.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.real.process import CACHE, locked, running, wait_until

LOCK = Path(__file__).parents[3] / "requirements" / "litellm.txt"
INSTALL_SECONDS = 480
READY_SECONDS = 150
_KEY = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
VENV = CACHE / f"litellm-{sys.version_info.major}.{sys.version_info.minor}-{_KEY}"
MASTER_KEY = "sk-master-of-tests"

# It fetches nothing at start.
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "true",
}


def build() -> Path:
    """The proxy's program; its environment is made where it is not there yet."""
    with locked("litellm"):
        if not (VENV / "ready").exists():
            shutil.rmtree(VENV, ignore_errors=True)
            _run(sys.executable, "-m", "venv", "--without-pip", str(VENV))
            uv = str(Path(sys.executable).with_name("uv"))
            options = ("--quiet", "--require-hashes", "--compile-bytecode")
            _run(uv, "pip", "install", "--python", str(VENV), *options, "-r", str(LOCK))
            (VENV / "ready").touch()
    return VENV / "bin" / "litellm"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_SECONDS)


class LiteLLM:
    """One proxy; `config` is its configuration file, `port` stays over restarts."""

    def __init__(self, folder: Path, config: dict[str, Any], *options: str) -> None:
        self._options = options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._stack = ExitStack()
        (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML too

    def start(self) -> None:
        """Without waiting until it is ready."""
        command = [str(build()), "--config", str(self._folder / "config.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(self.port), *self._options]
        env = {name: value for name, value in os.environ.items() if name.startswith("LITELLM_")}
        started = running(command, env={**env, **OFFLINE}, log=self._folder / "proxy.log")
        self.process = self._stack.enter_context(started)

    def wait(self) -> None:
        """Until it answers."""
        wait_until(self._is_alive, seconds=READY_SECONDS, what="the LiteLLM proxy")

    def kill(self) -> None:
        """At once, without a goodbye."""
        self.send(signal.SIGKILL)
        assert self.process
        self.process.wait()

    def send(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def close(self) -> None:
        self._stack.close()

    def get(self, path: str) -> bytes:
        """As somebody with the master key."""
        return self._open(urllib.request.Request(self.url + path, headers=_headers()))

    def call(self, model: str, timeout: float = 20.0, prompt: str = "well?") -> int:
        """One call of a model; the status of the answer."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", data=json.dumps(body).encode(), headers=_headers()
        )
        try:
            self._open(request, timeout)
        except urllib.error.HTTPError as error:
            error.read()
            return error.code
        return 200

    def _open(self, request: urllib.request.Request, timeout: float = 20.0) -> bytes:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body

    def _is_alive(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise RuntimeError(f"the proxy ended with {self.process.returncode}")
        try:
            return bool(self.get("/health/liveliness"))
        except OSError:
            return False


def _headers() -> dict[str, str]:
    return {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}


@contextmanager
def litellm(folder: Path, config: dict[str, Any], *options: str) -> Iterator[LiteLLM]:
    """A proxy that answers, ended with the context."""
    proxy = LiteLLM(folder, config, *options)
    try:
        proxy.start()
        proxy.wait()
        yield proxy
    finally:
        proxy.close()


if __name__ == "__main__":
    print(build())
