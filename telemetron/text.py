"""Rules for text that others wrote: one line, of bounded length, harmless on a terminal."""

import re
import unicodedata

MAX_TEXT = 4096
# Control, format (bidirectional overrides among them) and surrogate characters.
_INVISIBLE = {"Cc", "Cf", "Cs"}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def cut(text: str, limit: int) -> str:
    """Return the text, cut with `…` at `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Return the text as one line without invisible characters, cut with `…` at `limit`.

    Line breaks and other white space become spaces. This is how the document shows all text.
    """
    if not text.isprintable():
        text = "".join(" " if c.isspace() else c for c in text)
        text = "".join(c for c in text if unicodedata.category(c) not in _INVISIBLE)
    return cut(text, limit)


def strip_controls(text: str) -> str:
    """Return the text without control characters and lone surrogates."""
    return text if text.isprintable() else _CONTROLS.sub("", text)


def printable(text: str) -> str:
    r"""Return the text with its invisible characters escaped (`\x1b`), for logs and terminals."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
