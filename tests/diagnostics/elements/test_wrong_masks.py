"""How well scores find wrong masks: the largest region, cleanlab's soft minimum, the mean loss, class weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from examples.canvases import Canvases, Damage, make_canvases
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.diagnostics.chunks import Booleans, Floats
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.request import Batch, LossRequest, RequestOptions
from service.schema.result import BatchResult

DEVICE = Device("cpu")


@pytest.fixture(scope="module")
def seeds() -> list[Canvases]:
    return [make_canvases(seed) for seed in range(3)]


def losses(canvases: Canvases, outputs: Sequence[str], **config: Any) -> BatchResult:
    module = FocalLoss.from_config(LossConfig.parse({"gamma": 2.0, **config}), "cpu")
    options = RequestOptions.parse({"layout": "dense", "outputs": list(outputs)})
    request = LossRequest(options, (Batch(canvases.logits, canvases.given),))
    return evaluate(DEVICE, module, request, Limits(10**8, 10**6)).batches[0]


def largest_regions(canvases: Canvases) -> Floats:
    """The largest sum of focal losses of a region of each image, 0 without one."""
    regions = losses(canvases, ["regions"]).regions
    assert regions is not None
    largest = np.zeros(len(canvases.given))
    first = regions.offsets[:-1]
    present = np.diff(regions.offsets) > 0
    largest[present] = regions.loss_sum[first[present]]
    return largest


def mean_losses(canvases: Canvases, **config: Any) -> Floats:
    return np.asarray(losses(canvases, ["loss"], **config).per_example["loss"], np.float64)


def auroc(canvases: Canvases, values: Floats, *kinds: Damage) -> float:
    rows = np.isin(canvases.damage, (Damage.NONE, *kinds))
    return float(roc_auc_score(canvases.damage[rows] > 0, values[rows]))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.slow
def test_the_largest_region_finds_wrong_masks(seeds: list[Canvases]) -> None:
    damaged: list[Booleans] = [canvases.damage > 0 for canvases in seeds]
    regions = [largest_regions(canvases) for canvases in seeds]
    quality = [losses(canvases, ["label_quality"]).per_example["label_quality"] for canvases in seeds]
    region_auroc = mean([roc_auc_score(*pair) for pair in zip(damaged, regions, strict=True)])
    region_ap = mean([average_precision_score(*pair) for pair in zip(damaged, regions, strict=True)])
    softmin_auroc = mean([roc_auc_score(bad, -low) for bad, low in zip(damaged, quality, strict=True)])
    softmin_ap = mean([average_precision_score(bad, -low) for bad, low in zip(damaged, quality, strict=True)])
    accuracy = mean([float((c.logits.argmax(axis=1) == c.true).mean()) for c in seeds])
    print(f"accuracy {accuracy:.3f}, regions {region_auroc:.3f} {region_ap:.3f}, ", end="")
    print(f"softmin {softmin_auroc:.3f} {softmin_ap:.3f}")
    assert 0.94 < accuracy < 0.97
    assert region_auroc >= 0.9
    assert region_ap >= 0.83
    assert region_auroc > softmin_auroc + 0.02
    assert region_ap > softmin_ap + 0.02


@pytest.mark.slow
def test_weights_by_inverse_frequency_hide_missed_objects(seeds: list[Canvases]) -> None:
    plain, weighted = [], []
    for canvases in seeds:
        counts = np.bincount(canvases.given.reshape(-1), minlength=5).tolist()
        plain.append(auroc(canvases, mean_losses(canvases), Damage.DROPPED))
        alpha = {"class_counts": counts, "scheme": "inverse"}
        weighted.append(auroc(canvases, mean_losses(canvases, alpha=alpha), Damage.DROPPED))
    print(f"dropped objects: plain {mean(plain):.3f}, weighted {mean(weighted):.3f}")
    assert mean(plain) > 0.65
    assert mean(weighted) < 0.5


@pytest.mark.slow
def test_a_larger_gamma_finds_more_wrong_masks(seeds: list[Canvases]) -> None:
    found = [
        mean([auroc(canvases, mean_losses(canvases, gamma=gamma), *Damage) for canvases in seeds])
        for gamma in (0.0, 1.0, 2.0, 5.0)
    ]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.05
