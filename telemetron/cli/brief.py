"""`telemetron brief`: what matters now, as Markdown on a terminal, otherwise as JSON."""

from collections.abc import Mapping

from telemetron.cli import output
from telemetron.client import fetch
from telemetron.text import printable

PATH = "/system/brief"
MARKDOWN = "text/markdown"


def show(url: str, token: str | None, query: Mapping[str, str]) -> None:
    """Write the brief. Raises FetchError."""
    if not output.is_terminal():
        output.write(fetch(url, token, PATH, query).body, nl=False)
        return
    text = fetch(url, token, PATH, query, MARKDOWN).body.decode()
    output.write("\n".join(map(printable, text.splitlines())))
