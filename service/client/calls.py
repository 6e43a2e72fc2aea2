"""Requests to the service and the functions that read their replies, shared by the sync and the async client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx
import orjson

from service.client.arrays import as_plain
from service.client.batches import SentBatch, sent_batch
from service.client.errors import UnexpectedReplyError, error_of
from service.client.histograms import Reduce, as_histograms
from service.client.reduction import Reducer, needed_statistics
from service.client.results import HeldConfig
from service.client.wire import HEADERS, RequestBody, loss_body, read_reply
from service.errors import InvalidConfigError
from service.schema.config import LossConfig
from service.schema.request import OnInvalid, RequestOptions
from service.schema.result import LossResult
from service.schema.structure import DivisorName, Layout, WithinName, divisor_of
from service.settings import ENV_PREFIX, is_loopback

DEFAULT_URL = "http://127.0.0.1:8000"
API_KEY_VARIABLE = f"{ENV_PREFIX}API_KEY"
CONNECT_TIMEOUT_S = 5.0
CONFIG_FIELDS = ("config", "config_id")
JSON_HEADERS = {"Content-Type": "application/json"}

T = TypeVar("T")
ConfigFields = LossConfig | Mapping[str, object]
ConfigLike = ConfigFields | str | None
"""A configuration, its members, the `config_id` of one that the service holds, or None for all defaults."""
WithinLike = WithinName | Mapping[str, float]
"""How the loss of an example is made of its elements': `mean`, `sum`, `max`, or `{"top_share": q}`."""
Converter = Callable[[Any, int], SentBatch]
"""Converts a batch in one of the forms that `sent_batch` takes, and its number."""


@dataclass(frozen=True, eq=False)
class Call(Generic[T]):
    """A request, and the function that reads its reply.

    Args:
        method: HTTP method.
        path: Path and query, relative to the service's address.
        read: Function that returns the result of a successful reply. May raise ValueError, KeyError, TypeError or
            IndexError.
        content: Body of the request.
        headers: Headers in addition to those of the client.
        repeatable: True if a second identical request does no harm.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: RequestBody | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    repeatable: bool = True

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Build the request for an httpx client."""
        if not isinstance(self.content, RequestBody):
            return http.build_request(self.method, self.path, content=self.content, headers=self.headers)
        content = self.content.pieces() if isinstance(http, httpx.AsyncClient) else self.content
        headers = self.headers | {"Content-Length": str(self.content.length)}
        return http.build_request(self.method, self.path, content=content, headers=headers)

    def result(self, response: httpx.Response) -> T:
        """Return the result of a reply whose body has been read.

        Raises:
            LossServiceError: The reply is an error. The class is that of its `code`.
            UnexpectedReplyError: The reply does not have the format of this service.
        """
        if not response.is_success:
            raise error_of(response)
        try:
            return self.read(response)
        except (ValueError, KeyError, TypeError, IndexError) as err:
            kind = response.headers.get("content-type", "no content type")
            detail = f"not a reply of this service: {response.status_code}, {kind} ({type(err).__name__}: {err})"
            raise UnexpectedReplyError(detail, url=str(response.request.url)) from err


class Structure(TypedDict, total=False):
    """Options for examples of many elements: labels, tokens, pixels. They are those of the service.

    Args:
        layout: `rows` (default), `dense` or `ragged`; see `LossClient.loss`.
        divisor: By what `mean` divides the sum of element losses: `elements`, `examples`, `positives`, or a number.
        within: How the loss of an example is made of its elements': `mean`, `sum`, `max`, or `{"top_share": q}`.
        elements: Outputs of each element, in `per_element`.
        top_regions: Largest number of regions of each example, in `regions`.
        num_classes: Number of classes, for statistics in place of logits in softmax mode.
    """

    layout: Layout
    divisor: DivisorName | float
    within: WithinLike
    elements: Iterable[str]
    top_regions: int
    num_classes: int


class ConnectionArguments(TypedDict):
    """Arguments of `httpx.Client` and `httpx.AsyncClient`."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    trust_env: bool


def connection_arguments(url: str, api_key: str | None, timeout_s: float) -> ConnectionArguments:
    """Return the arguments of `httpx.Client` for a service. `api_key` defaults to the environment variable."""
    key = os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key
    # Scores hardly compress: on a fast network compressing them takes longer than sending them.
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return {
        "base_url": url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        # A proxy from the environment cannot reach the loopback interface of this machine.
        "trust_env": not is_loopback(httpx.URL(url).host),
    }


def parse_config(config: ConfigFields | None) -> LossConfig:
    """Validate a configuration as passed to the client. Arrays in it are converted to lists.

    Raises:
        InvalidConfigError: Unknown field, wrong type or value out of range. The message names the field.
    """
    if isinstance(config, LossConfig):
        return config
    return LossConfig.parse({name: as_plain(value) for name, value in (config or {}).items()})


def loss_fields(
    config: ConfigLike,
    outputs: Iterable[str] | str,
    top_k: int = 0,
    on_invalid: OnInvalid = "error",
    **structure: Unpack[Structure],
) -> dict[str, object]:
    """Validate the members of a loss request other than its tensors, and return them as JSON values.

    Raises:
        InvalidRequestError: The request is invalid. A subclass names the fault, e.g. UnknownOutputError.
    """
    fields = output_fields(outputs, top_k, on_invalid, **structure)
    if isinstance(config, str):
        return fields | {"config_id": config}
    return fields | {"config": parse_config(config).model_dump(mode="json")}


def output_fields(
    outputs: Iterable[str] | str, top_k: int, on_invalid: OnInvalid, **structure: Unpack[Structure]
) -> dict[str, object]:
    """Validate the members of a request that select its outputs, and return them as JSON values.

    Args:
        outputs: Names of scores, as an iterable or as one comma-separated string.
        top_k: Number of hardest examples to return, >= 0.
        on_invalid: Treatment of rows with an invalid logit or target.
        structure: See `Structure`.

    Raises:
        InvalidRequestError: The request is invalid. A subclass names the fault, e.g. UnknownOutputError.
    """
    if isinstance(outputs, str):
        outputs = [name.strip() for name in outputs.split(",")]
    fields: dict[str, object] = {"outputs": list(outputs), "top_k": top_k, "on_invalid": on_invalid, **structure}
    if "elements" in structure:
        fields["elements"] = list(structure["elements"])
    RequestOptions.parse(fields)
    return fields


def as_batch(logits: Any, targets: Any, ids: Any, offsets: Any = None) -> Any:
    """Combine the arguments of `loss` into a batch. A table passed as `logits` contains its own targets and ids."""
    if offsets is not None:
        return {"logits": logits, "targets": targets, "ids": ids, "offsets": offsets}
    return logits if targets is None and ids is None else (logits, targets, ids)


def divisor(fields: Mapping[str, Any]) -> DivisorName | float:
    """The divisor of a request, by its members; see `service.schema.structure.divisor_of`."""
    return divisor_of(fields.get("layout", "rows"), fields.get("divisor"))


def converter(fields: Mapping[str, Any], config: LossConfig | None, reduce: Reduce) -> Converter:
    """The conversion of the batches of a request for sending.

    Args:
        fields: Members of the request; see `loss_fields`.
        config: Its configuration, to send the statistics that its outputs need in place of logits; None: send the
            logits.
        reduce: `histogram` to send elements that stand for several.
    """
    reducer = None if config is None else _reducer(config, fields)
    convert = partial(sent_batch, on_invalid=fields["on_invalid"], reducer=reducer, layout=fields.get("layout", "rows"))
    if config is None or reduce != "histogram":
        return convert
    return lambda batch, number: as_histograms(convert(batch, number), config)


def _reducer(config: LossConfig, fields: Mapping[str, Any]) -> Reducer:
    options = RequestOptions.parse({name: value for name, value in fields.items() if name not in CONFIG_FIELDS})
    outputs = {*options.outputs, *options.elements, *(["prediction"] if options.with_regions else [])}
    return Reducer(config, options.layout, needed_statistics(config.mode, outputs), options.on_invalid)


def loss_call(batches: Sequence[SentBatch], fields: Mapping[str, object]) -> Call[LossResult]:
    """`POST /loss`. Stateless, so it may be repeated."""
    # Histograms of masks have the layout ragged.
    layouts = {batch.layout for batch in batches} - {"rows"}
    content = loss_body(batches, {**fields, **({"layout": layouts.pop()} if layouts else {})})
    return Call("POST", "/loss", reply_reader(batches), content, HEADERS)


def reply_reader(batches: Sequence[SentBatch]) -> Callable[[httpx.Response], LossResult]:
    """Return the function that reads the reply to these batches."""
    ids = [batch.ids for batch in batches]

    def read(response: httpx.Response) -> LossResult:
        reply = read_reply(response.content, ids)
        if len(reply.batches) != len(batches):
            raise ValueError(f"{len(reply.batches)} results for {len(batches)} batches")
        return reply

    return read


def put_config_call(config: ConfigFields) -> Call[HeldConfig]:
    """`PUT /configs`."""
    if isinstance(config, str):
        raise InvalidConfigError("a configuration is a LossConfig or a mapping; get_config takes a config_id")
    content = orjson.dumps(parse_config(config).model_dump(mode="json"))
    return Call("PUT", "/configs", _read_config, content, JSON_HEADERS)


def configs_call() -> Call[list[HeldConfig]]:
    """`GET /configs`."""
    return Call("GET", "/configs", lambda response: [HeldConfig.of(config) for config in response.json()["configs"]])


def get_config_call(config_id: str) -> Call[HeldConfig]:
    """`GET /configs/{config_id}`."""
    return Call("GET", f"/configs/{quote(config_id, safe='')}", _read_config)


def delete_config_call(config_id: str) -> Call[None]:
    """`DELETE /configs/{config_id}`. Not repeatable: the second request would be a 404."""
    return Call("DELETE", f"/configs/{quote(config_id, safe='')}", lambda response: None, repeatable=False)


def version_call() -> Call[str]:
    """`GET /healthz`."""
    return Call("GET", "/healthz", lambda response: str(response.json()["version"]))


def device_call() -> Call[str]:
    """`GET /readyz`."""
    return Call("GET", "/readyz", lambda response: str(response.json()["device"]))


def _read_config(response: httpx.Response) -> HeldConfig:
    return HeldConfig.of(response.json())


def json_object(response: httpx.Response) -> Any:
    """Read a JSON object. Its members are those of the service's type; only the outermost value is checked."""
    value = response.json()
    if not isinstance(value, dict):
        raise TypeError(f"a JSON object was expected, got {type(value).__name__}")
    return value
