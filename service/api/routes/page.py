"""`/`: the page for people who do not write code. It has no build step and uses only the public API."""

from __future__ import annotations

import mimetypes
from importlib.util import find_spec

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from service.api.http.package_files import PackageFiles

# Attributes of a data set may point to pictures on any host.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https: http:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    # Browsers ask before each use: after an update no browser runs old scripts against a new service.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Speed over size: plotly.min.js has 5 MB.
GZIP_LEVEL = 4

router = APIRouter(include_in_schema=False)
# Python 3.11 has an older name for it, and a machine's own table may have another.
mimetypes.add_type("text/javascript", ".js")


# Without plotly the service runs, and the page says that its charts are missing.
_CHARTS = [("plotly", "package_data")] if find_spec("plotly") else []
_FILES = PackageFiles(("service", "web"), *_CHARTS, headers=HEADERS)


@router.get("/")
async def get_page(request: Request) -> Response:
    """The page itself. It needs no key: without one it shows the form to sign in."""
    return await _FILES.get_response("index.html", request.scope)


def mount_files(app: FastAPI) -> None:
    """Serve the files that the page loads."""
    app.mount("/web", GZipMiddleware(_FILES, compresslevel=GZIP_LEVEL))
