"""The settings: name, type, default and description. Command-line options override environment variables."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.schema.api_keys import ApiKey
from service.schema.people import Principal

ENV_PREFIX = "FOCAL_LOSS_"
# Read by prometheus_client: the folder in which worker processes share their metrics.
METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MIB = 1024 * 1024
LEAST_SECRET_BYTES = 16
LEAST_QUERY_BYTES = 64 * MIB
# A loopback name may have any port, so the names of allowed_hosts have none.
HOST_NAME = r"^([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|[0-9a-f]*:[0-9a-f:.]+)$"
ORIGIN = r"^[a-z][a-z0-9+.-]*://[^\s/,*]+$"


def _split(value: object) -> object:
    """The parts of a text with commas; empty parts are left out."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _split_keys(value: object) -> object:
    """The parts of a text with commas. Only an empty text means no keys: a text of commas and spaces is an error."""
    parts = _split(value)
    if value and parts == ():
        raise ValueError("it names no key; leave it unset, or empty, for no authentication")
    return parts


def _keys_of_file(path: str) -> tuple[SecretStr, ...]:
    """The keys in a file: one in a line; empty lines and lines that start with # are left out."""
    try:
        lines = [line.strip(" \t\r") for line in Path(path).expanduser().read_text("utf-8").split("\n")]
    except (OSError, UnicodeDecodeError) as err:
        raise ValueError(f"api_keys_file cannot be read: {err}") from err
    keys = tuple(SecretStr(line) for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ValueError(f"api_keys_file {path} has no keys")
    return keys


def _split_lower(value: object) -> object:
    return _split(value.lower()) if isinstance(value, str) else value


class Settings(BaseSettings):
    """The settings of one service; each is also `FOCAL_LOSS_<NAME>` and `focal-loss serve --<name>`."""

    # Errors without their input: it may be a key.
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Annotated[str, Field(description="Address to listen on; without API keys only a loopback address.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535, description="TCP port to listen on; 0 chooses a free port.")] = 8000
    api_keys_file: Annotated[
        str, Field(description="File with API keys, one in a line, in addition to api_keys; lines with # are comments.")
    ] = ""
    api_keys: Annotated[
        tuple[SecretStr, ...],
        NoDecode,
        BeforeValidator(_split_keys),
        Field(
            validate_default=True,
            description="API keys, separated by commas, of at least 16 characters; none: no authentication. A key may "
            "be name:key or name:role:key, with the role reader, reviewer or owner (the default). The list "
            "of processes shows the option to other users of the machine: use the variable or api_keys_file.",
        ),
    ] = ()
    argilla_webhook_secret: Annotated[
        SecretStr,
        Field(
            description="Secret of the webhooks of Argilla, which signs its events with it; none: its events are "
            "refused. Use the variable, as for api_keys."
        ),
    ] = SecretStr("")
    allowed_hosts: Annotated[
        tuple[Annotated[str, Field(pattern=HOST_NAME)], ...],
        NoDecode,
        BeforeValidator(_split_lower),
        Field(
            description="Host names of the service, separated by commas, without ports. Requests to other names than "
            "these and loopback names get 403; with API keys and no names here, any name is allowed."
        ),
    ] = ()
    cors_origins: Annotated[
        tuple[Annotated[str, Field(pattern=ORIGIN)], ...],
        NoDecode,
        BeforeValidator(_split_lower),
        Field(
            description="Origins of other web pages that may use the API from a browser, separated by commas, such as "
            "http://localhost:8888."
        ),
    ] = ()
    forwarded_allow_ips: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_split),
        Field(
            description="Addresses and networks of reverse proxies whose X-Forwarded-For, -Proto, -Host and -Prefix "
            "headers are believed, separated by commas; * for all."
        ),
    ] = ("127.0.0.1",)
    root_path: Annotated[
        str,
        Field(
            pattern=r"^((/[A-Za-z0-9._~-]+)+)?$",
            description="Path prefix under which a reverse proxy serves the service, such as /focal.",
        ),
    ] = ""
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda(:\d+)?)$",
            description="auto (CUDA if available, else the CPU), cpu, cuda or cuda:N.",
        ),
    ] = "auto"
    processes: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="Worker processes behind one port; 0: one per core, at most 4, on the CPU, and 1 on CUDA.",
        ),
    ] = 0
    workers: Annotated[
        int, Field(ge=1, le=64, description="Threads per process that decode, compute and encode requests.")
    ] = 2
    queue_size: Annotated[
        int,
        Field(
            ge=1,
            description="Requests with a body admitted at once, and as many questions about runs; further ones wait "
            "for up to a second, then get 429.",
        ),
    ] = 128
    max_body_bytes: Annotated[
        int, Field(ge=1, description="Bytes of one request body, after decompression; larger bodies get 413.")
    ] = 256 * MIB
    max_queued_bytes: Annotated[
        int,
        Field(
            ge=1,
            description="Bytes of all admitted request bodies and of large replies; further requests wait for up to a "
            "second, then get 429.",
        ),
    ] = 1024 * MIB
    max_kept_bytes: Annotated[int, Field(ge=0, description="Bytes of unused request buffers kept for reuse.")] = (
        1024 * MIB
    )
    max_elements: Annotated[
        int, Field(ge=1, description="Logits in one batch, and targets; larger batches get 413.")
    ] = 2**27
    max_examples: Annotated[int, Field(ge=1, description="Examples in one request; larger requests get 413.")] = (
        10_000_000
    )
    max_configs: Annotated[
        int,
        Field(
            ge=1,
            description="Configurations in data_dir and on the device; the least recently used one is dropped first.",
        ),
    ] = 256
    max_configs_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="Bytes of memory of all configurations, about 80 for each weight; the least recently used one "
            "is dropped first.",
        ),
    ] = 128 * MIB
    data_dir: Annotated[
        str,
        Field(min_length=1, description="Folder for runs and configurations, or an fsspec URL (s3://bucket/path)."),
    ] = "~/.local/share/focal-loss-service"
    max_run_rows: Annotated[int, Field(ge=1, description="Rows of one run, over all epochs; further rows get 413.")] = (
        1_000_000_000
    )
    query_memory_bytes: Annotated[
        int,
        Field(
            ge=LEAST_QUERY_BYTES, description="Bytes of memory for all queries over runs; larger ones spill to disk."
        ),
    ] = 1024 * MIB
    query_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds for the queries of one request over a run; longer ones get 503.")
    ] = 30.0
    lease_s: Annotated[
        float, Field(gt=0, description="Seconds for which the next rows of a queue are leased to a reviewer.")
    ] = 600.0
    direct_body: Annotated[
        bool,
        Field(
            description="Receive bodies directly into their buffers, and limit headers, replies and connections; "
            "false: uvicorn's own protocol, which does not."
        ),
    ] = True
    max_head_bytes: Annotated[
        int, Field(ge=1024, description="Bytes of the request line and headers; larger ones get 431.")
    ] = 64 * 1024
    head_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds to receive the request line and headers; later ones get 408.")
    ] = 30.0
    body_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds to receive a complete request body; later ones get 408.")
    ] = 60.0
    min_bytes_per_s: Annotated[
        int,
        Field(
            ge=0,
            description="Least average rate of a request body after 10 seconds (else 408) and of a reply (else the "
            "connection is closed); 0: no limit.",
        ),
    ] = 1024
    write_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds after which a connection whose client takes no reply is closed.")
    ] = 30.0
    max_connections: Annotated[
        int,
        Field(
            ge=0,
            description="Connections of one process; further ones get 503, except for /healthz and /readyz. "
            "0: half of the files that a process may open, less 64.",
        ),
    ] = 0
    drain_delay_s: Annotated[
        float,
        Field(ge=0, description="Seconds after SIGTERM before connections are refused; /readyz returns 503 at once."),
    ] = 1.0
    drain_timeout_s: Annotated[
        int, Field(ge=0, description="Seconds after drain_delay_s for requests in progress to finish.")
    ] = 30
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Lowest level to log: debug, info, warning or error."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"],
        Field(description="Format of log lines: json, console, or auto (console on a terminal, else json)."),
    ] = "auto"

    @field_validator("api_keys")
    @classmethod
    def _keys_are_safe(cls, keys: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        """The keys with those of `api_keys_file`; raises if one is easy to guess, or cannot be sent in a header."""
        file = info.data.get("api_keys_file")
        places = {"key": keys, f"{file}: key": _keys_of_file(file) if file else ()}
        found: dict[str, Principal] = {}
        for place, of_place in places.items():
            for number, key in enumerate(of_place, start=1):
                try:
                    parsed = ApiKey.parse(key.get_secret_value())
                except ValueError as err:
                    raise ValueError(f"{place} {number} {err}") from None
                if found.setdefault(parsed.secret, parsed.principal) != parsed.principal:
                    raise ValueError(f"{place} {number} is the same as another key with another name or role")
        return tuple(dict.fromkeys(key for of_place in places.values() for key in of_place))

    @property
    def named_keys(self) -> tuple[ApiKey, ...]:
        """The keys, each with its name and role."""
        return tuple(ApiKey.parse(key.get_secret_value()) for key in self.api_keys)

    @field_validator("argilla_webhook_secret")
    @classmethod
    def _secret_is_base64(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value().removeprefix("whsec_")
        try:
            length = len(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
        except binascii.Error as err:
            raise ValueError("is not base64, with or without the prefix whsec_") from err
        if text and length < LEAST_SECRET_BYTES:
            raise ValueError(f"has {length} bytes, {LEAST_SECRET_BYTES} are the least")
        return secret

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            if network != "*":
                ipaddress.ip_network(network)
        return ("*",) if "*" in networks else networks

    @model_validator(mode="after")
    def _is_safe(self) -> Settings:
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(
                f"other machines can connect to host {self.host}: set api_keys "
                f"({ENV_PREFIX}API_KEYS) or listen on 127.0.0.1"
            )
        if self.max_queued_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_queued_bytes ({self.max_queued_bytes}) is below max_body_bytes ({self.max_body_bytes}): "
                "a body of the largest size could never be admitted"
            )
        return self


def is_loopback(host: str) -> bool:
    """True if only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
