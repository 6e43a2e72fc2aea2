"""What is asked of a run: its batches, examples, diagnostics, queues, reviews and exports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import httpx
import orjson

from service.client.arrays import SentBatch, sent_batch
from service.client.calls import Call, config_of, output_fields, reply_reader
from service.client.wire import HEADERS, loss_body
from service.errors import InvalidIdsError, InvalidNameError, InvalidRequestError
from service.schema.config import LossConfig
from service.schema.request import OnInvalid
from service.schema.result import LossResult

JSON_HEADERS = {"Content-Type": "application/json"}
# Rows of a queue or of a page that are asked for at once where all are wanted.
PAGE_ROWS = 5_000


def put_run_call(
    name: str,
    config: LossConfig | Mapping[str, Any] | None,
    class_names: Sequence[str] | None,
    display: Mapping[str, Any] | None,
    *,
    store_logits: bool,
) -> Call[dict[str, Any]]:
    """`PUT /runs/{run}`; the same again changes nothing."""
    body: dict[str, Any] = {"config": config_of(config).model_dump(mode="json"), "store_logits": store_logits}
    if class_names is not None:
        body["class_names"] = list(class_names)
    if display is not None:
        body["display"] = dict(display)
    return Call("PUT", run_path(name), _object, orjson.dumps(body), JSON_HEADERS)


def runs_call() -> Call[list[dict[str, Any]]]:
    """`GET /runs`."""
    return Call("GET", "/runs", lambda response: list(response.json()["runs"]))


def get_run_call(name: str) -> Call[dict[str, Any]]:
    """`GET /runs/{run}`."""
    return Call("GET", run_path(name), _object)


def delete_run_call(name: str) -> Call[None]:
    """`DELETE /runs/{run}`; a second one would be a 404."""
    return Call("DELETE", run_path(name), lambda response: None, repeatable=False)


def put_batch_call(
    name: str,
    epoch: int,
    batch_name: str,
    batch: Any,
    attributes: Mapping[str, Any] | None,
    outputs: Iterable[str],
    top_k: int,
    on_invalid: OnInvalid,
) -> Call[LossResult]:
    """`PUT /runs/{run}/epochs/{epoch}/batches/{batch}`; the same again changes nothing.

    Args:
        name: Of the run.
        epoch: 0 or more.
        batch_name: Of the batch within the epoch.
        batch: As `LossClient.loss_batches` takes one, or a SentBatch; with ids.
        attributes: One value per example under each name.
        outputs: What comes back of each example.
        top_k: How many of the hardest examples to name.
        on_invalid: Of a bad row.

    Raises:
        InvalidIdsError: It has no ids.
        InvalidRequestError: Or the class of it that says what is wrong.
    """
    sent = batch if isinstance(batch, SentBatch) else sent_batch(batch)
    if sent.ids is None:
        raise InvalidIdsError("batch 0: ids missing; a run knows its examples by them")
    fields = output_fields(outputs, top_k, on_invalid) | {"ids": sent.ids}
    if attributes:
        fields["attributes"] = _attributes_text(attributes)
    path = run_path(name, "epochs", str(epoch), "batches", batch_name)
    return Call("PUT", path, reply_reader([sent]), loss_body([sent], fields), HEADERS)


def _attributes_text(attributes: Mapping[str, Any]) -> orjson.Fragment:
    """As JSON: arrays and tensors are lists, dates and the like their text."""
    plain = {key: value.tolist() if hasattr(value, "tolist") else list(value) for key, value in attributes.items()}
    return orjson.Fragment(orjson.dumps(plain, default=str, option=orjson.OPT_SERIALIZE_NUMPY))


def examples_call(name: str, attributes: Mapping[str, str] | None = None, **query: Any) -> Call[dict[str, Any]]:
    """`GET /runs/{run}/examples`: one page."""
    return Call("GET", run_path(name, "examples") + query_text(**query, **_attribute_query(attributes)), _object)


def _attribute_query(attributes: Mapping[str, str] | None) -> dict[str, str]:
    return {f"attribute.{key}": value for key, value in (attributes or {}).items()}


def example_call(name: str, example_id: str | int, **query: Any) -> Call[dict[str, Any]]:
    """`GET /runs/{run}/examples/{id}`."""
    return Call("GET", run_path(name, "examples", str(example_id)) + query_text(**query), _object)


def asked_of_run(name: str, *parts: str, **query: Any) -> Call[dict[str, Any]]:
    """`GET /runs/{run}/...`, a JSON object: diagnostics, dynamics, reviews, another run to compare with."""
    return Call("GET", run_path(name, *parts) + query_text(**query), _object)


def create_queue_call(
    name: str, strategy: str, budget: int, alpha: Any, gamma: float | None, members: Mapping[str, Any]
) -> Call[dict[str, Any]]:
    """`POST /runs/{run}/queues`; only one with a name may be sent again, since that gives the same queue."""
    body = {"strategy": strategy, "budget": budget} | {key: one for key, one in members.items() if one is not None}
    path = run_path(name, "queues") + query_text(alpha=alpha, gamma=gamma)
    return Call("POST", path, _object, _dumps(body), JSON_HEADERS, repeatable=body.get("name") is not None)


def queues_call(name: str) -> Call[list[dict[str, Any]]]:
    """`GET /runs/{run}/queues`, without their rows."""
    return Call("GET", run_path(name, "queues"), lambda response: list(response.json()["queues"]))


def queue_call(
    name: str,
    queue: str,
    offset: int,
    limit: int | None = None,
    attributes: Mapping[str, str] | None = None,
    **query: Any,
) -> Call[dict[str, Any]]:
    """`GET /runs/{run}/queues/{queue}`: a page of rows from `offset` on, of PAGE_ROWS where no limit is given."""
    page = {"limit": limit or PAGE_ROWS, "offset": offset}
    text = query_text(**query, **_attribute_query(attributes), **page)
    return Call("GET", run_path(name, "queues", queue) + text, _object)


def add_reviews_call(name: str, reviews: Iterable[Mapping[str, Any]]) -> Call[dict[str, Any]]:
    """`POST /runs/{run}/reviews`; sent again they would stand twice in the history."""
    body = _dumps([dict(review) for review in reviews])
    return Call("POST", run_path(name, "reviews"), _object, body, JSON_HEADERS, repeatable=False)


def export_call(name: str, format_name: str, **query: Any) -> Call[bytes]:
    """`GET /runs/{run}/export`: the bytes of a file."""
    path = run_path(name, "export") + query_text(format=format_name, **query)
    return Call("GET", path, lambda response: response.content)


def run_path(*parts: str) -> str:
    """A path below `/runs`, each part escaped.

    Raises:
        InvalidNameError: A part that would lead to another path.
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidNameError(f"{part!r} is no name")
    return "/runs/" + "/".join(quote(part, safe="") for part in parts)


def query_text(**parameters: Any) -> str:
    """The query of a URL; None is left out, a sequence is written with commas, an empty one as `none`."""
    given = {name: _parameter(value) for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _parameter(value: Any) -> str:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value)) or "none"
    return str(value)


def _dumps(body: Any) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as err:
        raise InvalidRequestError(f"not what JSON can say: {err}") from err


def _object(response: httpx.Response) -> dict[str, Any]:
    value = response.json()
    if not isinstance(value, dict):
        raise TypeError(f"a JSON object was expected, got {type(value).__name__}")
    return value


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends well, and leaves nothing behind when it does not."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
