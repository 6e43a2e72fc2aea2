"""`/configs`: the losses held on the device."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service.api.body import read_body
from service.api.openapi import CONFIG_BODY, PROBLEMS
from service.api.state import service_of
from service.codecs.json_codec import JsonCodec
from service.codecs.negotiation import reader
from service.errors import DecodeError, UnsupportedMediaTypeError
from service.messages import LossConfig
from service.registry import HeldLoss

MAX_CONFIG_BYTES = 8 * 1024 * 1024

router = APIRouter(prefix="/configs", tags=["configurations"], responses=PROBLEMS)


@router.put("", summary="Hold a configuration on the device", openapi_extra=CONFIG_BODY)
async def put_config(request: Request) -> JSONResponse:
    """201 where the instance is new, 200 where one of the same meaning is held already."""
    service = service_of(request)
    if not isinstance(reader(request.headers.get("content-type")), JsonCodec):
        raise UnsupportedMediaTypeError("a configuration is application/json", headers={"Accept": "application/json"})
    body = await read_body(request, max_bytes=MAX_CONFIG_BYTES, timeout_s=service.settings.body_timeout_s)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise DecodeError(f"the body is not JSON: {err}") from err
    config = LossConfig.parse(fields)
    held, new = await service.engine.run(lambda: service.registry.put(config))
    return JSONResponse(_described(held), status_code=201 if new else 200)


@router.get("", summary="All configurations held")
async def list_configs(request: Request) -> JSONResponse:
    """The most recently used first, with use counts."""
    service = service_of(request)
    held = [_described(one) for one in service.registry.snapshot()]
    return JSONResponse({"configs": held, "max_configs": service.settings.max_configs})


@router.get("/{config_id}", summary="One configuration")
async def get_config(request: Request, config_id: str) -> JSONResponse:
    """404 `unknown_config` where it is not held."""
    return JSONResponse(_described(service_of(request).registry.get(config_id)))


@router.delete("/{config_id}", summary="Let a configuration go", status_code=204)
async def delete_config(request: Request, config_id: str) -> Response:
    """404 `unknown_config` where it is not held; requests at work with it finish."""
    service_of(request).registry.drop(config_id)
    return Response(status_code=204)


def _described(held: HeldLoss) -> dict[str, Any]:
    return {
        "config_id": held.config_id,
        "config": held.config.model_dump(mode="json"),
        "alpha": None if held.config.weights is None else list(held.config.weights),
        "device": held.module.device,
        "uses": held.uses,
        "created_at": held.created_at.isoformat(),
        "last_used_at": held.last_used_at.isoformat(),
    }
