"""Outputs of elements of several batches in one safetensors reply."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.codecs import element_outputs
from service.codecs.json import JsonCodec
from service.codecs.json_elements import regions_json
from service.codecs.safetensors import SafetensorsCodec
from service.errors import TooManyRegionsError
from service.schema.result import LossResult
from tests.codecs import samples
from tests.codecs.test_json_elements import some_regions
from tests.codecs.test_safetensors_replies import read_by_the_library

Array = np.ndarray[Any, np.dtype[Any]]


def result(*batches: dict[str, Any]) -> LossResult:
    sample = samples.result({"loss": np.zeros(2, np.float32)})
    return replace(sample, batches=tuple(replace(sample.batches[0], **members) for members in batches))


def reply(*batches: dict[str, Any]) -> tuple[dict[str, Array], dict[str, str]]:
    return read_by_the_library(SafetensorsCodec().encode(result(*batches)))


def values(*shape: int) -> dict[str, Array]:
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return {"loss": numbers, "prediction": numbers.astype(np.int64)}


@pytest.mark.parametrize("shapes", [[(2,)], [(2, 3, 4)], [(2, 3), (1, 3)], [(2, 3), (0, 3)]])
def test_shaped_like_the_targets(shapes: list[tuple[int, ...]]) -> None:
    tensors, metadata = reply(*({"per_element": values(*shape)} for shape in shapes))
    for name, dtype in (("loss", np.float32), ("prediction", np.int64)):
        got = tensors[f"per_element.{name}"]
        assert got.dtype == dtype
        assert np.array_equal(got, np.concatenate([values(*shape)[name] for shape in shapes]))
    assert "element_shapes" not in metadata
    assert "offsets" not in tensors


def test_flat_if_the_shapes_differ() -> None:
    tensors, metadata = reply({"per_element": values(2, 3)}, {"per_element": values(1, 2, 2)})
    assert tensors["per_element.loss"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert json.loads(metadata["element_shapes"]) == [[2, 3], [1, 2, 2]]


def test_offsets_are_those_of_all_batches() -> None:
    tensors, _ = reply(
        {"per_element": values(3), "offsets": np.array([0, 1, 3])},
        {"per_element": values(2), "offsets": np.array([0, 0, 2])},
    )
    assert tensors["offsets"].tolist() == [0, 1, 3, 3, 5]
    assert tensors["offsets"].dtype == np.int64
    assert tensors["per_element.loss"].tolist() == [0, 1, 2, 0, 1]


def test_more_regions_than_metadata_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(element_outputs, "MAX_REGION_BYTES", 1000)
    assert len(json.loads(reply({"regions": some_regions([3, 4])})[1]["regions"])) == 2
    # By their text, and by their number before there is a text.
    for count in (10, 30):
        with pytest.raises(TooManyRegionsError, match="the metadata of safetensors holds 1000"):
            reply({"regions": some_regions([count])})


def test_least_bytes_of_a_region() -> None:
    assert len(regions_json(some_regions([1]))[2:-2]) >= element_outputs.LEAST_REGION_BYTES


@pytest.mark.parametrize("counts", [[[1, 2]], [[1, 2], [0]], [[], [3]], [[], []]])
def test_regions_are_those_of_json(counts: list[list[int]]) -> None:
    batches = [{"regions": some_regions(of_batch)} for of_batch in counts]
    _, metadata = reply(*batches)
    in_json = json.loads(JsonCodec().encode(result(*batches)))["batches"]
    assert json.loads(metadata["regions"]) == [
        example for batch in in_json for example in batch["per_example"]["regions"]
    ]
