"""`GET /swagger/`: Swagger UI, from the files of the package swagger-ui-py."""

import asyncio
import importlib.metadata
from pathlib import Path

from telemetron.http import HttpProblem, Scope, route_path
from telemetron.web.pages.headers import NOTHING, Page, etag_of, policy
from telemetron.web.routes import SWAGGER

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
# The URL of the document is relative, so that it is right below any root path.
INITIALIZER = b"""SwaggerUIBundle({
  url: new URL("../openapi.json", location.href).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
OWN = {"": (PAGE, "text/html"), "initializer.js": (INITIALIZER, "text/javascript")}


async def file(scope: Scope) -> Page:
    """Return the page, or one of the files it loads."""
    name = route_path(scope).removeprefix(SWAGGER)
    if name in OWN:
        body, media = OWN[name]
        return Page(body, media, policy(POLICY), etag_of(body))
    if name not in FILES:
        raise HttpProblem(404, f"no such file; the page is {SWAGGER}")
    body = await asyncio.to_thread(_read, name)
    return Page(body, FILES[name], policy(), etag_of(body))


def _read(name: str) -> bytes:
    # To import the package would import several web frameworks.
    package = importlib.metadata.distribution("swagger-ui-py")
    return Path(str(package.locate_file(f"swagger_ui/static/{name}"))).read_bytes()
