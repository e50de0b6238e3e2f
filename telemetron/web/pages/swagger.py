"""`GET /swagger/`: Swagger UI from the files that the package swagger-ui-py brings along."""

import asyncio
import importlib.metadata
import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from telemetron.http import HttpProblem
from telemetron.query import parameters
from telemetron.web.pages.page import NOTHING, etag_of, policy, unless_known

POLICY = (
    f"{NOTHING}; script-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " style-src 'self' 'unsafe-inline'"
)
FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "index.css": "text/css",
    "favicon-32x32.png": "image/png",
}
PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Telemetron</title>
<link rel="icon" href="favicon-32x32.png">
<link rel="stylesheet" href="swagger-ui.css">
<link rel="stylesheet" href="index.css">
<div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="initializer.js"></script>
</html>
"""
# The document's address is relative, so that it is right below any root path.
INITIALIZER = b"""SwaggerUIBundle({
  url: new URL("../openapi.json", location.href).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
OWN = {"": (PAGE, "text/html"), "initializer.js": (INITIALIZER, "text/javascript")}


def routes() -> list[Route]:
    """The page and its files."""
    return [Route("/swagger", _redirect), Route("/swagger/{file:path}", _file)]


async def _redirect(request: Request) -> Response:
    parameters(request.scope["query_string"], ())
    return RedirectResponse("swagger/", status_code=308)


async def _file(request: Request) -> Response:
    parameters(request.scope["query_string"], ())
    name = request.path_params["file"]
    if name in OWN:
        body, media = OWN[name]
        response = Response(body, media_type=media, headers=policy(POLICY))
        return unless_known(request, response, etag_of(body))
    if name not in FILES:
        raise HttpProblem(404, "no such file; the page is /swagger/")
    path, stat = await asyncio.to_thread(_found, name)
    file = FileResponse(path, media_type=FILES[name], stat_result=stat, headers=policy())
    return unless_known(request, file, f'W/"{stat.st_mtime_ns:x}-{stat.st_size:x}"')


def _found(name: str) -> tuple[Path, os.stat_result]:
    # The package itself is not imported: it would bring web frameworks along.
    package = importlib.metadata.distribution("swagger-ui-py")
    path = Path(str(package.locate_file(f"swagger_ui/static/{name}")))
    return path, path.stat()
