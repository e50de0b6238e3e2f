"""`GET /`: what a reader finds who knows nothing but the address."""

import html
import re
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request

from telemetron import __version__
from telemetron.config.settings import Auth
from telemetron.service.service import Service

PATHS = {
    "/system/state": "the state of the system, one JSON document",
    "/system/state/{section}": "one section of it",
    "/system/state/{section}/{key}": "one entity of it",
    "/system/changes": "what changed since a place, a time or 5m ago; once, or as events",
    "/system/history/{section}/{key}": "the life of one entity, newest first",
    "/system/schema": "the JSON Schema of the state",
    "/swagger/": "the HTTP interface, to try out",
    "/openapi.json": "the HTTP interface, for programs",
    "/livez": "whether the process answers; ?verbose lists each source",
    "/readyz": "whether it takes requests",
    "/healthz": "both of these",
    "/agents/{name}/livez": "whether an agent beats, and gets on; fails on evidence alone",
    "/metrics": "Prometheus metrics of Telemetron itself",
}
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


def base(request: Request) -> str:
    """The URL that the client used, below which all paths are."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = "localhost"
    return f"{request.url.scheme}://{host}{request.scope.get('root_path', '')}"


def asks_tokens(service: Service) -> bool:
    """Whether the configuration has any."""
    auth = service.settings.server.auth
    return isinstance(auth, Auth) and (auth.read is not None or auth.write is not None)


def welcome(service: Service, base: str) -> dict[str, Any]:
    """The page's content: `place`, `sections`, `paths` and an `example` for a shell."""
    snapshot = service.store.snapshot
    mounted = service.supervisor.mounts.collectors
    pushes = {prefix: collector.description for prefix, collector in mounted.items()}
    token = "-H 'Authorization: Bearer TOKEN' " if asks_tokens(service) else ""
    return {
        "name": "telemetron",
        "version": __version__,
        "id": snapshot.id,
        "place": f"{snapshot.epoch}.{snapshot.change.revision}",
        "sections": [
            {"path": f"/system/state/{name}", "entities": len(section.rope)}
            for name, section in snapshot.sections.items()
        ],
        "paths": [{"path": path, "about": about} for path, about in (PATHS | pushes).items()],
        "example": f"curl -fsS {token}{base}/system/state | jq .",
    }


def _text(page: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"Telemetron {page['version']}: the state of {page['id']}",
            *("", "Sections, and how many entities they have"),
            *[f"  {row['path']:<31} {row['entities']}" for row in page["sections"]],
            *("", "Paths"),
            *[f"  {row['path']:<31} {row['about']}" for row in page["paths"]],
            *("", "Try", f"  {page['example']}", ""),
        ]
    )


def _html(page: dict[str, Any]) -> str:
    sections = [_row(row["path"], str(row["entities"]), link=True) for row in page["sections"]]
    paths = [
        _row(row["path"], row["about"], link=row["path"] in PATHS and "{" not in row["path"])
        for row in page["paths"]
    ]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Telemetron: {html.escape(page["id"])}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem }}
td, th {{ padding-right: 1.5rem; text-align: left; vertical-align: top }}
pre {{ background: #8882; overflow-x: auto; padding: .75rem }}
</style>
<h1>Telemetron</h1>
<p>The state of <b>{html.escape(page["id"])}</b>. Version {html.escape(page["version"])}.</p>
<h2>Sections</h2>
<table>
<tr><th>Section</th><th>Entities</th></tr>
{"".join(sections)}</table>
<h2>Paths</h2>
<table>
{"".join(paths)}</table>
<h2>Try</h2>
<pre>{html.escape(page["example"])}</pre>
</html>
"""


def _row(path: str, about: str, *, link: bool) -> str:
    name = f"<code>{html.escape(path)}</code>"
    # Relative, so that it is right below any root path.
    name = f'<a href="{html.escape(path[1:])}">{name}</a>' if link else name
    return f"<tr><td>{name}</td><td>{html.escape(about)}</td></tr>\n"


WRITERS: dict[str, Callable[[dict[str, Any]], str | bytes]] = {
    "text/plain": _text,
    "application/json": msgspec.json.encode,
    "text/html": _html,
}
"""How the page is written, by media type; the first is for clients that take any."""
