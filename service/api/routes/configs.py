"""`/configs`: the losses held on the device."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service.api.http.body import read_json
from service.api.http.openapi import CONFIG_BODY, PROBLEMS
from service.api.state import Service, service_of
from service.compute.registry import HeldLoss
from service.schema.config import LossConfig

router = APIRouter(prefix="/configs", tags=["configurations"], responses=PROBLEMS)


@router.put("", summary="Hold a configuration on the device", openapi_extra=CONFIG_BODY)
async def put_config(request: Request) -> JSONResponse:
    """201 where the instance is new, 200 where one of the same meaning is held already."""
    service = service_of(request)
    config = LossConfig.parse(await read_json(request))
    new = await service.put(config)
    (held,) = await service.held(config.config_id)
    return JSONResponse(_described(held, service), status_code=201 if new else 200)


@router.get("", summary="All configurations held")
async def list_configs(request: Request) -> JSONResponse:
    """The most recently used first, with use counts."""
    service = service_of(request)
    held = [_described(one, service) for one in await service.held()]
    return JSONResponse({"configs": held, "max_configs": service.settings.max_configs})


@router.get("/{config_id}", summary="One configuration")
async def get_config(request: Request, config_id: str) -> JSONResponse:
    """404 `unknown_config` where it is not held."""
    service = service_of(request)
    (held,) = await service.held(config_id)
    return JSONResponse(_described(held, service))


@router.delete("/{config_id}", summary="Let a configuration go", status_code=204)
async def delete_config(request: Request, config_id: str) -> Response:
    """404 `unknown_config` where it is not held; requests at work with it finish."""
    await service_of(request).drop(config_id)
    return Response(status_code=204)


def _described(held: HeldLoss, service: Service) -> dict[str, Any]:
    return {
        "config_id": held.config_id,
        "config": held.config.model_dump(mode="json"),
        "alpha": None if held.config.weights is None else list(held.config.weights),
        "device": service.engine.device,
        "uses": held.uses,
        "created_at": held.created_at.isoformat(),
        "last_used_at": held.last_used_at.isoformat(),
    }
