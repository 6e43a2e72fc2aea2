"""What is asked of the service and how its answers are read; the sync and the async client send the same calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import orjson

from service.client.arrays import SentBatch
from service.client.errors import UnexpectedReplyError, error_of
from service.client.results import HeldConfig
from service.client.wire import HEADERS, Body, loss_body, read_reply
from service.errors import InvalidConfigError
from service.schema.config import LossConfig
from service.schema.request import OnInvalid, RequestOptions
from service.schema.result import LossResult
from service.settings import ENV_PREFIX, is_loopback

DEFAULT_URL = "http://127.0.0.1:8000"
API_KEY_VARIABLE = f"{ENV_PREFIX}API_KEY"
CONNECTS_WITHIN_S = 5.0

T = TypeVar("T")
ConfigLike = LossConfig | Mapping[str, Any] | str | None


@dataclass(frozen=True, eq=False)
class Call(Generic[T]):
    """One request and what its reply means.

    Args:
        method: Of HTTP.
        path: Below the service's address.
        read: From a successful reply to the result.
        content: The body.
        headers: Beside the client's own.
        repeatable: Whether the service may get it twice.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: Body | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    repeatable: bool = True

    def arguments(self) -> dict[str, Any]:
        """For `httpx.Client.build_request`."""
        headers = self.headers | (
            {"Content-Length": str(self.content.length)} if isinstance(self.content, Body) else {}
        )
        return {"method": self.method, "url": self.path, "content": self.content, "headers": headers}

    def result(self, response: httpx.Response) -> T:
        """What a reply says, which has been read in full.

        Raises:
            LossServiceError: An error, in the service's class for its code.
            UnexpectedReplyError: It is not what the service sends.
        """
        if not response.is_success:
            raise error_of(response)
        try:
            return self.read(response)
        except (ValueError, KeyError, TypeError, IndexError) as err:
            kind = response.headers.get("content-type", "no content type")
            detail = f"not a reply of this service: {response.status_code}, {kind} ({type(err).__name__}: {err})"
            raise UnexpectedReplyError(detail, url=str(response.request.url)) from err


def connection_arguments(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """For `httpx.Client` and `httpx.AsyncClient`."""
    key = os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key
    # Scores hardly compress, and on a fast line compressing takes longer than sending.
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return {
        "base_url": url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECTS_WITHIN_S)),
        # No proxy of the environment reaches this machine's own loopback.
        "trust_env": not is_loopback(httpx.URL(url).host),
    }


def config_of(config: LossConfig | Mapping[str, Any] | None) -> LossConfig:
    """A configuration as given to the client, checked; arrays in it count as lists.

    Raises:
        InvalidConfigError: It means nothing; names the field.
    """
    if isinstance(config, LossConfig):
        return config
    fields = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in (config or {}).items()}
    return LossConfig.parse(fields)


def loss_fields(
    config: ConfigLike, outputs: Iterable[str], top_k: int = 0, on_invalid: OnInvalid = "error"
) -> dict[str, Any]:
    """Everything of a request but its tensors, checked.

    Raises:
        InvalidRequestError: Or the class of it that says what is wrong.
    """
    fields = output_fields(outputs, top_k, on_invalid)
    if isinstance(config, str):
        return fields | {"config_id": config}
    return fields | {"config": config_of(config).model_dump(mode="json")}


def output_fields(outputs: Iterable[str], top_k: int, on_invalid: OnInvalid) -> dict[str, Any]:
    """What is to come back of a batch, checked.

    Raises:
        InvalidRequestError: Or the class of it that says what is wrong.
    """
    if isinstance(outputs, str):
        outputs = [name.strip() for name in outputs.split(",")]
    fields: dict[str, Any] = {"outputs": list(outputs), "top_k": top_k, "on_invalid": on_invalid}
    RequestOptions.parse(fields)
    return fields


def one_batch(logits: Any, targets: Any, ids: Any) -> Any:
    """The arguments of `loss` as a batch; a table, which has its own targets, stands alone."""
    return logits if targets is None and ids is None else (logits, targets, ids)


def loss_call(batches: Sequence[SentBatch], fields: dict[str, Any]) -> Call[LossResult]:
    """`POST /loss`: stateless, so it may be sent again."""
    return Call("POST", "/loss", reply_reader(batches), loss_body(batches, fields), HEADERS)


def reply_reader(batches: Sequence[SentBatch]) -> Callable[[httpx.Response], LossResult]:
    """How the reply to these batches is read."""
    ids = [batch.ids for batch in batches]

    def read(response: httpx.Response) -> LossResult:
        reply = read_reply(response.content, ids)
        if len(reply.batches) != len(batches):
            raise ValueError(f"{len(reply.batches)} results for {len(batches)} batches")
        return reply

    return read


def put_config_call(config: LossConfig | Mapping[str, Any]) -> Call[HeldConfig]:
    """`PUT /configs`."""
    if isinstance(config, str):
        raise InvalidConfigError("a configuration is a LossConfig or a mapping; get_config takes a config_id")
    content = orjson.dumps(config_of(config).model_dump(mode="json"))
    return Call("PUT", "/configs", _held, content, {"Content-Type": "application/json"})


def configs_call() -> Call[list[HeldConfig]]:
    """`GET /configs`."""
    return Call("GET", "/configs", lambda response: [HeldConfig.of(one) for one in response.json()["configs"]])


def get_config_call(config_id: str) -> Call[HeldConfig]:
    """`GET /configs/{config_id}`."""
    return Call("GET", f"/configs/{quote(config_id, safe='')}", _held)


def delete_config_call(config_id: str) -> Call[None]:
    """`DELETE /configs/{config_id}`; a second one would be a 404."""
    return Call("DELETE", f"/configs/{quote(config_id, safe='')}", lambda response: None, repeatable=False)


def version_call() -> Call[str]:
    """`GET /healthz`."""
    return Call("GET", "/healthz", lambda response: str(response.json()["version"]))


def device_call() -> Call[str]:
    """`GET /readyz`."""
    return Call("GET", "/readyz", lambda response: str(response.json()["device"]))


def _held(response: httpx.Response) -> HeldConfig:
    return HeldConfig.of(response.json())
