"""`GET /`: an overview for readers who know only the address."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from telemetron import __version__
from telemetron.config.settings import AuthSettings
from telemetron.http import Scope, header
from telemetron.service.service import Service
from telemetron.web.routes import GUIDE, ROUTES

PATHS = {route.path: route.summary for route in ROUTES if route.path != "/"}
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


def base(scope: Scope) -> str:
    """Return the URL that the client used for the root of all paths."""
    host = header(scope, b"host").decode("latin-1")
    if not _HOST.fullmatch(host):
        host = "localhost"
    return f"{scope['scheme']}://{host}{scope['root_path']}"


def roles(service: Service) -> tuple[str, ...]:
    """Return the roles that have a token in the configuration."""
    auth = service.settings.server.auth
    return tuple(auth.tokens) if isinstance(auth, AuthSettings) else ()


def welcome(service: Service, base: str) -> dict[str, Any]:
    """Return the content of the page; `example` is a command for a shell."""
    snapshot = service.store.snapshot
    mounts = service.supervisor.mounts
    pushes = {prefix: collector.description for prefix, collector in mounts.collectors.items()}
    paths = PATHS | mounts.probes | pushes
    token = "-H 'Authorization: Bearer TOKEN' " if roles(service) else ""
    return {
        "name": "telemetron",
        "version": __version__,
        "id": snapshot.id,
        "guide": GUIDE,
        "place": f"{snapshot.epoch}.{snapshot.change.revision}",
        "sections": [
            {"path": f"/system/state/{name}", "entities": len(section.rope)}
            for name, section in snapshot.sections.items()
        ],
        "paths": [{"path": path, "about": about} for path, about in paths.items()],
        "example": f"curl -fsS {token}{base}/system/state | jq .",
    }


def _text(page: dict[str, Any]) -> bytes:
    return "\n".join(
        [
            f"Telemetron {page['version']}: the state of {page['id']}",
            *("", f"Start with {page['guide']}: which request answers which question"),
            *("", "Sections and their numbers of entities"),
            *[f"  {row['path']:<31} {row['entities']}" for row in page["sections"]],
            *("", "Paths"),
            *[f"  {row['path']:<31} {row['about']}" for row in page["paths"]],
            *("", "Try", f"  {page['example']}", ""),
        ]
    ).encode()


def _html(page: dict[str, Any]) -> bytes:
    from html import escape  # its table of entities takes half a megabyte

    sections = [_row(row["path"], str(row["entities"]), link=True) for row in page["sections"]]
    paths = [
        _row(row["path"], row["about"], link=row["path"] in PATHS and "{" not in row["path"])
        for row in page["paths"]
    ]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Telemetron: {escape(page["id"])}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem }}
td, th {{ padding-right: 1.5rem; text-align: left; vertical-align: top }}
pre {{ background: #8882; overflow-x: auto; padding: .75rem }}
</style>
<h1>Telemetron</h1>
<p>The state of <b>{escape(page["id"])}</b>. Version {escape(page["version"])}.</p>
<p>Start with <a href="{page["guide"][1:]}">{page["guide"]}</a>: which request answers which
question.</p>
<h2>Sections</h2>
<table>
<tr><th>Section</th><th>Entities</th></tr>
{"".join(sections)}</table>
<h2>Paths</h2>
<table>
{"".join(paths)}</table>
<h2>Try</h2>
<pre>{escape(page["example"])}</pre>
</html>
""".encode()


def _row(path: str, about: str, *, link: bool) -> str:
    from html import escape

    name = f"<code>{escape(path)}</code>"
    # Relative, so that it is right below any root path.
    name = f'<a href="{escape(path[1:])}">{name}</a>' if link else name
    return f"<tr><td>{name}</td><td>{escape(about)}</td></tr>\n"


WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "text/plain": _text,
    "application/json": msgspec.json.encode,
    "text/html": _html,
}
"""By media type; the first is for clients that accept any."""
