"""Tokenizers of Claude and GPT in an environment of their own, locked, in the cache.

They need a newer Python than Telemetron, so they run as a program: texts in, counts out.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.real.process import CACHE, locked

LOCK = Path(__file__).parents[3] / "requirements" / "tokenizers.txt"
INSTALL_SECONDS = 240
COUNT_SECONDS = 240
VENV = CACHE / f"tokenizers-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
NAMES = ("python3.14", "python3.13", "python3.12")
# The frame of a message, which ctok counts with each text, is not part of an answer.
PROGRAM = """
import json, sys
import bpe_openai, ctok
gpt = bpe_openai.get_encoding("o200k_base")
families = {"Claude 3.0": "3.0", "Claude 4.7": "4.7", "Claude 4.8": "4.8"}
frames = {name: ctok.token_count("a", version) - 1 for name, version in families.items()}
def counts(text):
    claude = {n: ctok.token_count(text, version) - frames[n] for n, version in families.items()}
    return {**claude, "o200k": len(gpt.encode(text))}
json.dump([counts(text) for text in json.load(sys.stdin)], sys.stdout)
"""


def pythons() -> Iterator[Path]:
    """Yield each Python that is new enough, also those of pyenv that are not on the path."""
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for name in NAMES:
        yield from sorted(versions.glob(f"{name.removeprefix('python')}.*/bin/python"))


def build() -> Path | None:
    """Return the environment's Python, made if need be; None if there is no Python for it."""
    python = VENV / "bin" / "python"
    with locked("tokenizers"):
        if (VENV / "ready").exists():
            return python
        return python if any(map(_made, pythons())) else None


def _made(base: Path) -> bool:
    """Make the environment with this Python; it may be a shim of a version that is not there."""
    shutil.rmtree(VENV, ignore_errors=True)
    probe = [base, "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]
    if subprocess.run(probe, capture_output=True, timeout=30).returncode:
        return False
    subprocess.run([base, "-m", "venv", VENV], check=True, timeout=INSTALL_SECONDS)
    wanted = ["--quiet", "--require-hashes", "-r", str(LOCK)]
    pip = [VENV / "bin" / "python", "-m", "pip", "install", *wanted]
    subprocess.run(pip, check=True, timeout=INSTALL_SECONDS)
    (VENV / "ready").touch()
    return True


def counts(python: Path, texts: Sequence[str]) -> list[dict[str, int]]:
    """Return the tokens of each text, by tokenizer."""
    done = subprocess.run(
        [python, "-c", PROGRAM],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=COUNT_SECONDS,
    )
    found: list[dict[str, int]] = json.loads(done.stdout)
    return found
