"""`/docs`: Swagger UI with its files out of the fastapi-offline package, so that it works without internet."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ASSETS = "docs/assets"
# Relative URLs stay under the path prefix of a proxy.
PAGE = get_swagger_ui_html(
    openapi_url="openapi.json",
    title="Focal Loss Service",
    swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
    swagger_css_url=f"{ASSETS}/swagger-ui.css",
    swagger_favicon_url=f"{ASSETS}/favicon.png",
)


def _hashes_of_scripts(html: str) -> str:
    """The inline scripts of a page, as sources of a Content-Security-Policy."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


# Swagger UI sets styles of elements and has pictures in its style sheet.
POLICY = (
    f"default-src 'none'; script-src 'self' {_hashes_of_scripts(bytes(PAGE.body).decode())}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """The API to try out; every file it loads comes from this service."""
    return HTMLResponse(PAGE.body, headers=HEADERS)


class DocsFiles(StaticFiles):
    """Files of Swagger UI."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 if the client has it already."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount_assets(app: FastAPI) -> None:
    """Serve the files that the page loads."""
    app.mount(f"/{ASSETS}", DocsFiles(directory=str(files("fastapi_offline") / "static")))
