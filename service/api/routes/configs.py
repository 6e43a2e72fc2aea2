"""`/configs`: stored configurations, shared by all processes of the service."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.configurations import Configuration
from service.api.http.openapi import BODY, json_body, problems
from service.api.http.path_types import ConfigId
from service.api.http.responses import json_response
from service.api.receive import read_json
from service.api.state import Service, service_of
from service.errors import (
    DeviceOutOfMemoryError,
    InvalidConfigError,
    StorageFullError,
    StorageUnavailableError,
    UnknownConfigError,
)
from service.schema.config import LossConfig
from service.schema.replies.config import config_reply
from service.schema.replies.service import ConfigList, ConfigReply

EXAMPLES = {
    "weights": {"alpha": [1.0, 2.0, 4.0], "gamma": 2.0},
    "counts": {"alpha": {"class_counts": [900, 90, 10], "scheme": "effective"}},
}

router = APIRouter(prefix="/configs", tags=["configurations"])


@router.put(
    "",
    summary="Store a configuration and load it onto the device",
    status_code=201,
    response_model=ConfigReply,
    response_description="The configuration is new.",
    responses={
        200: {"model": ConfigReply, "description": "A configuration with the same meaning was stored before."},
        **problems(*BODY, InvalidConfigError, StorageUnavailableError, StorageFullError, DeviceOutOfMemoryError),
    },
    openapi_extra=json_body(LossConfig, EXAMPLES),
)
async def put_config(request: Request) -> Response:
    """Two spellings of one meaning have the same `config_id`."""
    service = service_of(request)
    config = await read_json(request, LossConfig.parse)

    def work() -> Response:
        new = service.configurations.put(config)
        return json_response(_reply(service.configurations.get(config.config_id), service), 201 if new else 200)

    return await asyncio.to_thread(work)


@router.get(
    "",
    summary="List all configurations",
    response_model=ConfigList,
    responses=problems(StorageUnavailableError),
)
async def list_configs(request: Request) -> Response:
    """The most recently used configuration is first."""
    service = service_of(request)

    def work() -> Response:
        reply: ConfigList = {
            "configs": [_reply(configuration, service) for configuration in service.configurations.all()],
            "max_configs": service.configurations.capacity,
        }
        return json_response(reply)

    return await asyncio.to_thread(work)


@router.get(
    "/{config_id}",
    summary="Get a configuration",
    response_model=ConfigReply,
    responses=problems(UnknownConfigError, StorageUnavailableError),
)
async def get_config(request: Request, config_id: ConfigId) -> Response:
    """The configuration, the weights of its classes, and how often it was used."""
    service = service_of(request)
    return await asyncio.to_thread(lambda: json_response(_reply(service.configurations.get(config_id), service)))


@router.delete(
    "/{config_id}",
    summary="Delete a configuration",
    status_code=204,
    response_description="The configuration is deleted.",
    responses=problems(UnknownConfigError, StorageUnavailableError),
)
async def delete_config(request: Request, config_id: ConfigId) -> Response:
    """Requests that use it finish; other processes notice within seconds."""
    await asyncio.to_thread(service_of(request).configurations.drop, config_id)
    return Response(status_code=204)


def _reply(stored: Configuration, service: Service) -> ConfigReply:
    return {
        "config_id": stored.config.config_id,
        "config": config_reply(stored.config),
        "alpha": None if stored.config.weights is None else list(stored.config.weights),
        "device": service.device.name,
        "uses": stored.uses,
        "created_at": stored.created_at.isoformat(),
        "last_used_at": stored.last_used_at.isoformat(),
    }
