"""Every setting once: name, default, unit and help. Command line wins over environment, environment over default."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "FOCAL_LOSS_"
# Read by prometheus_client: the folder in which worker processes share their metrics.
METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MIB = 1024 * 1024
LEAST_QUERY_BYTES = 64 * MIB


def _split_keys(value: object) -> object:
    return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value


class Settings(BaseSettings):
    """The settings of one service; each is also `FOCAL_LOSS_<NAME>` and `focal-loss serve --<name>`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    host: Annotated[str, Field(description="Address to listen on; only loopback unless api_keys are set.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")] = 8000
    api_keys: Annotated[
        tuple[SecretStr, ...],
        NoDecode,
        BeforeValidator(_split_keys),
        Field(description="Bearer keys, separated by commas; none: no key is asked for."),
    ] = ()
    device: Annotated[
        str,
        Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto (CUDA where there is one), cpu, cuda or cuda:N."),
    ] = "auto"
    processes: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="Worker processes behind one port; 0: one for each core, at most 4, on the CPU, and 1 on CUDA.",
        ),
    ] = 0
    workers: Annotated[
        int,
        Field(ge=1, le=64, description="Threads of each process that decode, compute and encode; requests at work."),
    ] = 2
    queue_size: Annotated[
        int, Field(ge=1, description="Requests held at once; more wait for up to a second, then get 429.")
    ] = 128
    max_body_bytes: Annotated[int, Field(ge=1, description="Bytes of one request body; more get 413.")] = 256 * MIB
    max_queued_bytes: Annotated[
        int,
        Field(
            ge=1,
            description="Bytes of all request bodies held at once; more wait likewise.",
        ),
    ] = 1024 * MIB
    max_kept_bytes: Annotated[
        int, Field(ge=0, description="Bytes of memory kept for the bodies of the next requests, where none needs them.")
    ] = 1024 * MIB
    max_elements: Annotated[int, Field(ge=1, description="Logits (rows x classes) in one batch; more get 413.")] = 2**27
    max_examples: Annotated[int, Field(ge=1, description="Rows in one request; more get 413.")] = 10_000_000
    max_configs: Annotated[
        int,
        Field(
            ge=1,
            description="Configurations kept in data_dir, and held on the device; the least recently used goes first.",
        ),
    ] = 256
    data_dir: Annotated[
        str,
        Field(min_length=1, description="Folder of runs and configurations, or an fsspec URL (s3://bucket/path)."),
    ] = "~/.local/share/focal-loss-service"
    max_run_rows: Annotated[int, Field(ge=1, description="Rows of one run, all epochs together; more get 413.")] = (
        1_000_000_000
    )
    query_memory_bytes: Annotated[
        int,
        Field(
            ge=LEAST_QUERY_BYTES, description="Bytes of memory for all queries over runs; what needs more goes to disk."
        ),
    ] = 1024 * MIB
    direct_body: Annotated[
        bool,
        Field(
            description="Receive bodies straight into their buffers, with limits for headers; false: uvicorn's own "
            "protocol, which has neither."
        ),
    ] = True
    max_head_bytes: Annotated[int, Field(ge=1024, description="Bytes of request line and headers; more get 431.")] = (
        64 * 1024
    )
    head_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds for request line and headers to arrive; later gets 408.")
    ] = 30.0
    body_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds for a request body to arrive in full; later gets 408.")
    ] = 60.0
    drain_delay_s: Annotated[
        float, Field(ge=0, description="Seconds between SIGTERM, when /readyz turns 503, and the end of accepting.")
    ] = 1.0
    drain_timeout_s: Annotated[
        int, Field(ge=0, description="Seconds that requests in flight have to finish after that.")
    ] = 30
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="debug, info, warning or error.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"], Field(description="json, console, or auto: console on a terminal.")
    ] = "auto"

    @field_validator("api_keys")
    @classmethod
    def _keys_are_long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        shortest = 16
        for number, key in enumerate(keys, start=1):
            if len(key.get_secret_value()) < shortest:
                raise ValueError(f"key {number} has fewer than {shortest} characters")
        return keys

    @model_validator(mode="after")
    def _is_safe(self) -> Settings:
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines: set api_keys "
                f"({ENV_PREFIX}API_KEYS) or listen on 127.0.0.1"
            )
        if self.max_queued_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_queued_bytes ({self.max_queued_bytes}) is below max_body_bytes ({self.max_body_bytes}): "
                "the largest body would never be taken"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
