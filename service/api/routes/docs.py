"""`/docs`: Swagger UI with its files out of the fastapi-offline package, so that it works without internet."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from service.api.http.package_files import PackageFiles

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
NO_CACHE = {"Cache-Control": "no-cache"}
HEADERS = {"Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin", **NO_CACHE}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """The API to try out; every file it loads comes from this service."""
    return HTMLResponse(PAGE.body, headers=HEADERS)


def mount_assets(app: FastAPI) -> None:
    """Serve the files that the page loads."""
    app.mount(f"/{ASSETS}", PackageFiles(("fastapi_offline", "static"), headers=NO_CACHE))
