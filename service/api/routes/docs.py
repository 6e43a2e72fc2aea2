"""`/docs`: Swagger UI with its files out of the fastapi-offline package, so that it works without internet."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """The API to try out; every file it loads comes from this service."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Focal Loss Service",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )


def mount_assets(app: FastAPI) -> None:
    """Serve the files that the page loads."""
    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_offline") / "static")))
