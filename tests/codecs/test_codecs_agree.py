"""The same batches in every format have the same result."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.base import Codec
from service.codecs.json import JsonCodec
from service.codecs.open_inference import decode_request
from service.codecs.safetensors import SafetensorsCodec
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.request import OUTPUTS
from service.schema.result import LossResult
from tests.strategies import PlainBatch, at_most, softmax_batches

# cleanlab's quotient of entropy and p_t jumps where both are next to 0, so that the width of a float decides.
AGREE = [name for name in OUTPUTS if name != "confidence_weighted_entropy"]
LIMITS = Limits(1000, 1000)
configs = st.fixed_dictionaries(
    {"gamma": st.sampled_from([0, 0.5, 2, 5]), "reduction": st.sampled_from(["mean", "sum", "weighted_mean", "none"])}
)


@pytest.fixture(scope="module")
def device() -> Device:
    return Device("cpu")


def json_body(batches: list[PlainBatch], options: dict[str, Any]) -> bytearray:
    fields = [
        {"logits": batch.logits.tolist(), "targets": batch.targets.tolist()}
        | ({} if batch.ids is None else {"ids": batch.ids})
        for batch in batches
    ]
    return bytearray(json.dumps({**options, "batches": fields}).encode())


def safetensors_body(batches: list[PlainBatch], options: dict[str, Any]) -> bytearray:
    tensors = {}
    for number, batch in enumerate(batches):
        tensors |= {f"logits.{number}": batch.logits, f"targets.{number}": batch.targets}
    ids = [{} if batch.ids is None else {"ids": batch.ids} for batch in batches]
    return bytearray(safetensors.numpy.save(tensors, {"request": json.dumps({**options, "batches": ids})}))


def arrow_body(batches: list[PlainBatch], options: dict[str, Any]) -> bytearray:
    named = batches[0].ids is not None
    width = batches[0].logits.shape[1]
    kinds = [pa.field("logits", pa.list_(pa.float32(), width)), pa.field("targets", pa.int64())]
    schema = pa.schema([*kinds, *([pa.field("id", pa.string())] if named else [])], {"request": json.dumps(options)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            logits = pa.FixedSizeListArray.from_arrays(pa.array(batch.logits.ravel()), width)
            ids = [pa.array(batch.ids, pa.string())] if named else []
            writer.write_batch(pa.record_batch([logits, pa.array(batch.targets), *ids], schema=schema))
    return bytearray(sink.getvalue())


def computed(device: Device, codec: Codec, body: bytearray) -> LossResult:
    request = codec.decode(body)
    return evaluate(device, FocalLoss.from_config(request.options.config or LossConfig(), "cpu"), request, LIMITS)


def close(first: object, second: object, scale: float = 1.0) -> None:
    # float32 holds nothing smaller than 1e-45, and holds that with no digits to spare.
    assert np.allclose(np.float64(first), np.float64(second), rtol=2e-5, atol=1e-37 + 1e-6 * scale, equal_nan=True)


@pytest.mark.parametrize("codec", [SafetensorsCodec(), ArrowCodec()], ids=lambda codec: codec.media_type)
@at_most(40, deadline=None)
@given(batches=softmax_batches(), config=configs, top_k=st.integers(0, 20))
def test_same_request_has_the_same_result_in_every_format(
    device: Device, codec: Codec, batches: list[PlainBatch], config: dict[str, Any], top_k: int
) -> None:
    options = {"config": config, "outputs": list(OUTPUTS), "top_k": top_k}
    is_arrow = isinstance(codec, ArrowCodec)
    if is_arrow:
        # A column has one type.
        batches = [
            replace(batch, ids=[f"{i!r}" for i in batch.ids] if batch.ids is not None else None) for batch in batches
        ]
    text = computed(device, JsonCodec(), json_body(batches, options))
    binary = computed(device, codec, (arrow_body if is_arrow else safetensors_body)(batches, options))
    assert text.config_id == binary.config_id
    assert (text.num_examples, text.num_ignored, text.num_excluded) == (
        binary.num_examples,
        binary.num_ignored,
        binary.num_excluded,
    )
    close(np.nan if text.loss is None else text.loss, np.nan if binary.loss is None else binary.loss, scale=0)
    assert len(text.hardest) == len(binary.hardest) == min(top_k, text.num_examples - text.num_ignored)
    for from_json, from_binary, batch in zip(text.batches, binary.batches, batches, strict=True):
        assert from_json.ids == from_binary.ids == batch.ids
        assert (from_json.num_examples, from_json.num_ignored) == (from_binary.num_examples, from_binary.num_ignored)
        close(from_json.loss_sum, from_binary.loss_sum, scale=0)
        close(from_json.alpha_sum, from_binary.alpha_sum, scale=0)
        assert list(from_json.per_example) == list(from_binary.per_example) == list(OUTPUTS)
        for name in AGREE:
            if name == "prediction":
                assert np.array_equal(from_json.per_example[name], from_binary.per_example[name])
            else:
                # Differences of logits are near 0 where their float32 sides are not.
                scale = 30 if name in ("log_odds", "logit_margin") else 1
                close(from_json.per_example[name], from_binary.per_example[name], scale)


@at_most(40, deadline=None)
@given(batches=softmax_batches(most=1), config=configs, binary=st.booleans())
def test_inference_protocol_has_the_same_result(
    device: Device, batches: list[PlainBatch], config: dict[str, Any], binary: bool
) -> None:
    (batch,) = batches
    entries, tail = [], b""
    for name, datatype, array in (("logits", "FP32", batch.logits), ("targets", "INT64", batch.targets)):
        entry = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        content = array.tobytes()
        entries.append(
            entry | ({"parameters": {"binary_data_size": len(content)}} if binary else {"data": array.tolist()})
        )
        tail += content if binary else b""
    header = json.dumps({"inputs": entries, "parameters": {"config": json.dumps(config)}}).encode()
    request = decode_request(bytearray(header + tail), len(header)).loss_request
    assert request.options.config is not None
    got = evaluate(device, FocalLoss.from_config(request.options.config, "cpu"), request, LIMITS)
    text = computed(device, JsonCodec(), json_body([replace(batch, ids=None)], {"config": config}))
    close(np.nan if text.loss is None else text.loss, np.nan if got.loss is None else got.loss, scale=0)
    close(text.batches[0].per_example["contribution"], got.batches[0].per_example["contribution"])


@at_most(40, deadline=None)
@given(batches=softmax_batches(), top_k=st.integers(0, 5))
def test_result_is_the_same_in_both_replies(device: Device, batches: list[PlainBatch], top_k: int) -> None:
    options = {"outputs": ["loss", "p_t", "prediction"], "top_k": top_k}
    result = computed(device, SafetensorsCodec(), safetensors_body(batches, options))
    text = json.loads(JsonCodec().encode(result))
    body = SafetensorsCodec().encode(result)
    tensors = safetensors.numpy.load(body)
    metadata = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]

    assert (metadata["config_id"], metadata["device"]) == (text["config_id"], text["device"])
    assert json.loads(metadata["hardest"]) == text["hardest"]
    assert null_as_nan([text["loss"]]) == pytest.approx([tensors["loss"].item()], nan_ok=True)
    assert tensors["batch_num_examples"].tolist() == [batch["num_examples"] for batch in text["batches"]]
    losses = null_as_nan([batch["loss"] for batch in text["batches"]])
    assert tensors["batch_loss"].tolist() == pytest.approx(losses, nan_ok=True)
    for name in options["outputs"]:
        column = [value for batch in text["batches"] for value in batch["per_example"][name]]
        if name == "prediction":
            assert tensors["per_example.prediction"].tolist() == [-1 if value is None else value for value in column]
        else:
            assert np.array_equal(tensors[f"per_example.{name}"], np.float32(null_as_nan(column)), equal_nan=True)


def null_as_nan(values: list[Any]) -> list[float]:
    return [np.nan if value is None else value for value in values]
