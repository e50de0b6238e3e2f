"""Find phrases that readers must decode, in docs, docstrings, comments and messages.

    python -m tests.docs.prose [FILE …]       every finding of these files, else of the project

Each phrase is correct English, and slow to read where it is frequent. Its ceiling is the rate per
1,000 words of the whole project that `make check` allows; well-known projects of this field have at
most a third of it.
"""

import ast
import io
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "collectors", "deploy", "docs", "examples", "sdk", "telemetron")
GENERATED = ("build", "dist", "node_modules")


class Phrase(NamedTuple):
    """A kind of phrase to avoid, the rate that is allowed of it, and what to write instead."""

    name: str
    pattern: "re.Pattern[str]"
    ceiling: float
    """Findings per 1,000 words."""
    instead: str


class Finding(NamedTuple):
    """One phrase in one place."""

    phrase: str
    file: Path
    line: int
    text: str
    """The line that the phrase is in."""

    def __str__(self) -> str:
        return f"{os.path.relpath(self.file)}:{self.line}: {self.phrase}: {self.text}"


def phrase(name: str, pattern: str, ceiling: float, instead: str) -> Phrase:
    """Return the kind of phrase that a pattern for lower-case text finds."""
    return Phrase(name, re.compile(pattern, re.MULTILINE), ceiling, instead)


PHRASES = [
    phrase(
        "what-is",
        r"\bwhat (is|was|are|it|they|he|she|we|has|had|can|comes|came|stands|changed|does|did)\b",
        0.7,
        "the noun: 'the committed offset'",
    ),
    phrase(
        "where-if",
        r"(^|[,;:.(] ?)where (it|they|there|that|one|a|an|the|no|none|nothing|what)\b",
        0.1,
        "'if' for a condition",
    ),
    phrase(
        "told", r"\b(is|are|was|were|be) told\b|\btells?\b", 0.1, "return, report, send, describe"
    ),
    phrase("stands", r"\bstands?\b", 0.2, "is, means, holds"),
    phrase("nobody", r"\b(whoever|nobody|somebody)\b", 0.2, "the actor: a reader, a caller"),
    phrase("alone", r"\balone\b", 0.1, "'only'"),
    phrase("anew", r"\b(anew|be it|no more)\b", 0.1, "'again', 'no longer'"),
    phrase(
        "who",
        r"(^|[.;:] )who [a-z]+s\b|\bone that\b|\bthose that\b",
        0.2,
        "the noun: 'a slow reader'",
    ),
]


def files(root: Path = ROOT) -> list[Path]:
    """Return the files of the project that have prose, tests excepted."""
    found = [*root.glob("*.md")]
    for folder in FOLDERS:
        found += [*(root / folder).rglob("*.md"), *(root / folder).rglob("*.py")]
    return sorted(file for file in found if not set(file.parts) & {*GENERATED})


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the pieces of prose of a file in lower case, each with the line it begins in."""
    text = file.read_text("utf-8")
    pieces = of_python(text) if file.suffix == ".py" else of_markdown(text)
    for line, piece in pieces:
        yield line, piece.lower()


def of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield the strings of more than one word, docstrings among them, and the comments."""
    for node in ast.walk(ast.parse(text)):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and " " in value.strip():
            yield node.lineno, value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield a page whose examples are emptied; line numbers stay."""
    yield 1, re.sub(r"```.*?```", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)


def words(pieces: Iterable[tuple[int, str]]) -> int:
    """Count the words of pieces of prose."""
    return sum(len(re.findall(r"[a-z']+", piece)) for _, piece in pieces)


def findings(file: Path, phrases: Iterable[Phrase] = PHRASES) -> Iterator[Finding]:
    """Yield every phrase to avoid that a file has."""
    for line, piece in prose(file):
        lines = piece.splitlines()
        for one in phrases:
            for match in one.pattern.finditer(piece):
                at = piece.count("\n", 0, match.start(0))
                yield Finding(one.name, file, line + at, lines[at].strip())


def rate_of(kind: Phrase, found: Iterable[Finding], total: int) -> float:
    """Return the findings of one kind per 1,000 words."""
    return 1000 * sum(finding.phrase == kind.name for finding in found) / total


def main(arguments: list[str]) -> int:
    """Print the findings, then the rate of each phrase; return 1 if a rate is above its ceiling."""
    chosen = [Path(argument) for argument in arguments] or files()
    found = [finding for file in chosen for finding in findings(file)]
    total = sum(words(prose(file)) for file in chosen) or 1
    for finding in found:
        print(finding)
    rates = {kind: rate_of(kind, found, total) for kind in PHRASES}
    for kind, rate in rates.items():
        print(f"{rate:6.2f} of {kind.ceiling:.2f}  {kind.name}: better {kind.instead}")
    return int(any(rate > kind.ceiling for kind, rate in rates.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
