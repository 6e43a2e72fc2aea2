"""`/configs`: the configurations that every process of the service knows by their id."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service.api.configurations import Configuration
from service.api.http.body import read_json
from service.api.http.openapi import CONFIG_BODY, PROBLEMS
from service.api.state import Service, service_of
from service.schema.config import LossConfig

router = APIRouter(prefix="/configs", tags=["configurations"], responses=PROBLEMS)


@router.put("", summary="Hold a configuration on the device", openapi_extra=CONFIG_BODY)
async def put_config(request: Request) -> JSONResponse:
    """201 if the configuration is new, 200 if one of the same meaning is stored already."""
    service = service_of(request)
    config = LossConfig.parse(await read_json(request))

    def work() -> tuple[bool, Configuration]:
        new = service.configurations.put(config)
        return new, service.configurations.get(config.config_id)

    new, stored = await asyncio.to_thread(work)
    return JSONResponse(_described(stored, service), status_code=201 if new else 200)


@router.get("", summary="All configurations")
async def list_configs(request: Request) -> JSONResponse:
    """The most recently used first; `uses` counts the requests of the process that answers."""
    service = service_of(request)
    stored = await asyncio.to_thread(service.configurations.all)
    configs = [_described(configuration, service) for configuration in stored]
    return JSONResponse({"configs": configs, "max_configs": service.configurations.capacity})


@router.get("/{config_id}", summary="One configuration")
async def get_config(request: Request, config_id: str) -> JSONResponse:
    """404 `unknown_config` if it is not stored."""
    service = service_of(request)
    return JSONResponse(_described(await asyncio.to_thread(service.configurations.get, config_id), service))


@router.delete("/{config_id}", summary="Delete a configuration", status_code=204)
async def delete_config(request: Request, config_id: str) -> Response:
    """404 `unknown_config` if it is not stored. Requests that use it finish; other processes notice within seconds."""
    await asyncio.to_thread(service_of(request).configurations.drop, config_id)
    return Response(status_code=204)


def _described(stored: Configuration, service: Service) -> dict[str, Any]:
    return {
        "config_id": stored.config.config_id,
        "config": stored.config.model_dump(mode="json"),
        "alpha": None if stored.config.weights is None else list(stored.config.weights),
        "device": service.device.name,
        "uses": stored.uses,
        "created_at": stored.created_at.isoformat(),
        "last_used_at": stored.last_used_at.isoformat(),
    }
