"""Structured examples against other libraries, and against values that were computed with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cleanlab.multilabel_classification import get_label_quality_scores as multilabel_quality
from cleanlab.segmentation.rank import get_label_quality_scores as mask_quality

from service.schema.request import Batch
from tests.compute.sample_requests import compute
from tests.compute.structured import sigmoid_elements

IGNORED = -100
# torch, kornia and MONAI agree on these.
ELEMENT_LOSSES = [
    [[3.8775967, 7.0064910], [4.6173072, 0]],
    [[12.0180109, 13.0180944], [5.9728751, 11.0005610]],
]


def dense_fixture() -> Batch:
    n, c, h, w = np.ogrid[:2, :3, :2, :2]
    logits = (3 * n + 2 * c - h + w / 2) * (-1.0) ** (c + h)
    return Batch(logits, np.array([[[0, 1], [2, IGNORED]], [[1, 1], [0, 2]]]))


def random_masks(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits (3, 4, 6, 6), and targets with six wrong pixels in the first image."""
    logits = np.random.default_rng(seed).normal(size=(3, 4, 6, 6))
    targets = logits.argmax(1)
    targets[0, :2, :3] = (targets[0, :2, :3] + 1) % 4
    return logits, targets


class TestDense:
    def test_losses_of_pixels_images_and_batch(self) -> None:
        result = compute([dense_fixture()], layout="dense", elements=["loss"])
        (batch,) = result.batches
        np.testing.assert_allclose(batch.per_element["loss"], ELEMENT_LOSSES, rtol=1e-7)
        assert batch.loss_sum == pytest.approx(57.5109362, rel=1e-8)
        assert result.loss == pytest.approx(8.2158480, rel=1e-7)
        assert batch.per_example["loss"].tolist() == pytest.approx([5.1671316, 10.5023853], rel=1e-7)
        assert (result.num_elements, result.num_examples) == (7, 2)

    @pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
    @pytest.mark.parametrize(("reduction", "of_torch"), [("weighted_mean", "mean"), ("sum", "sum")])
    def test_cross_entropy_of_torch(self, weights: Any, reduction: str, of_torch: str) -> None:
        batch = dense_fixture()
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        expected = torch.nn.functional.cross_entropy(
            torch.from_numpy(batch.logits), torch.from_numpy(batch.targets), weight, reduction=of_torch
        )
        result = compute([batch], {"gamma": 0, "reduction": reduction, "alpha": weights}, layout="dense")
        assert result.loss == pytest.approx(expected.item(), rel=1e-9)

    def test_softmin_of_masks_equals_cleanlab(self) -> None:
        logits, targets = random_masks()
        (batch,) = compute([Batch(logits, targets)], layout="dense", outputs=["label_quality"]).batches
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected, _ = mask_quality(targets, probabilities, method="softmin", verbose=False)
        np.testing.assert_allclose(batch.per_example["label_quality"], expected, rtol=1e-9)
        np.testing.assert_allclose(expected, [0.0889239, 0.425776, 0.435893], rtol=1e-5)


class TestLabels:
    def test_softmin_of_several_labels_equals_cleanlab(self) -> None:
        rng = np.random.default_rng(3)
        logits, targets = rng.normal(size=(40, 5)) * 2, rng.integers(0, 2, (40, 5))
        (batch,) = compute([Batch(logits, targets)], {"mode": "sigmoid"}, outputs=["label_quality"]).batches
        labels = [np.flatnonzero(row).tolist() for row in targets]
        expected = multilabel_quality(
            labels,
            1 / (1 + np.exp(-logits)),
            method="self_confidence",
            adjust_pred_probs=False,
            aggregator_kwargs={"method": "softmin", "temperature": 0.1},
        )
        np.testing.assert_allclose(batch.per_example["label_quality"], expected, rtol=1e-9)

    def test_the_sum_is_over_all_labels(self) -> None:
        """The sum of torchvision's `sigmoid_focal_loss`, and the contribution of an example with reduction `none`."""
        rng = np.random.default_rng(4)
        logits, targets = rng.normal(size=(6, 3)), rng.integers(0, 2, (6, 3))
        losses = sigmoid_elements(logits.reshape(-1), targets.reshape(-1), np.full(18, 0.25), 2)[:, 0].reshape(6, 3)
        for reduction in ("sum", "none"):
            config = {"mode": "sigmoid", "alpha": 0.25, "reduction": reduction}
            (batch,) = compute([Batch(logits, targets)], config).batches
            assert batch.loss == (pytest.approx(losses.sum(), rel=1e-12) if reduction == "sum" else None)
            assert batch.loss_sum == pytest.approx(losses.sum(), rel=1e-12)
            np.testing.assert_allclose(batch.per_example["contribution"], losses.sum(1), rtol=1e-12)
            np.testing.assert_allclose(batch.per_example["loss"], losses.mean(1), rtol=1e-12)

    def test_divisors_of_detectors(self) -> None:
        """RetinaNet divides by the positives of an image, DETR by the number of boxes of a batch."""
        rng = np.random.default_rng(5)
        logits = rng.normal(size=(2, 30, 4)) - 2
        targets = np.zeros((2, 30, 4), np.int64)
        targets[0, [3, 4, 20], [0, 1, 3]] = 1
        offsets = np.array([0, 30, 60])
        batch = Batch(logits.reshape(60, 4), targets.reshape(60, 4), offsets=offsets)
        config = {"mode": "sigmoid", "alpha": 0.25}
        losses = sigmoid_elements(logits.reshape(-1), targets.reshape(-1), np.full(240, 0.25), 2)[:, 0].reshape(2, -1)
        images = losses.sum(1)
        retina = (images[0] / 3 + images[1] / 1) / 2
        assert compute([batch], config, layout="ragged", divisor="positives").loss == pytest.approx(retina, rel=1e-12)
        detr = losses.sum() / 7
        assert compute([batch], config, layout="ragged", divisor=7).loss == pytest.approx(detr, rel=1e-12)


class TestSameMeaning:
    """Layouts that hold the same elements give the same result."""

    OUTPUTS = ("loss", "num_valid", "label_quality", "max_loss", "p_t", "entropy", "el2n", "grad_norm")

    @pytest.mark.parametrize("sigmoid", [False, True])
    def test_dense_ragged_and_rows(self, sigmoid: bool) -> None:
        rng = np.random.default_rng(6)
        logits = rng.normal(size=(4, 3, 7)).astype(np.float32)
        targets = rng.integers(0, 2, logits.shape if sigmoid else (4, 7))
        targets[rng.random(targets.shape) < 0.2] = IGNORED
        config = {"mode": "sigmoid" if sigmoid else "softmax", "alpha": [0.2, 0.5, 0.7]}
        options: dict[str, Any] = {"outputs": list(self.OUTPUTS), "divisor": "elements", "within": {"top_share": 0.3}}
        dense = compute([Batch(logits, targets)], config, layout="dense", **options)
        tokens = np.moveaxis(logits, 1, 2).reshape(28, 3)
        labels = np.moveaxis(targets, 1, 2).reshape(28, 3) if sigmoid else targets.reshape(28)
        ragged = compute([Batch(tokens, labels, offsets=np.arange(5) * 7)], config, layout="ragged", **options)
        rows = compute([Batch(tokens, labels)], config, divisor="elements")
        assert ragged.loss == pytest.approx(dense.loss, rel=1e-12)
        assert rows.loss == pytest.approx(dense.loss, rel=1e-12)
        for name in self.OUTPUTS:
            np.testing.assert_allclose(
                ragged.batches[0].per_example[name], dense.batches[0].per_example[name], rtol=1e-6, err_msg=name
            )

    def test_ignored_elements_change_nothing(self) -> None:
        rng = np.random.default_rng(7)
        logits, targets = rng.normal(size=(9, 4)), rng.integers(0, 4, 9)
        padded, labels = np.full((15, 4), np.nan), np.full(15, IGNORED)
        places = np.array([0, 1, 2, 5, 6, 7, 10, 11, 12])
        padded[places], labels[places] = logits, targets
        options = {"outputs": [name for name in self.OUTPUTS if name != "num_valid"], "within": {"top_share": 0.5}}
        short = compute([Batch(logits, targets, offsets=np.array([0, 3, 6, 9]))], layout="ragged", **options)
        long = compute([Batch(padded, labels, offsets=np.array([0, 5, 10, 15]))], layout="ragged", **options)
        dense = Batch(padded.reshape(3, 5, 4).transpose(0, 2, 1), labels.reshape(3, 5))
        for other in (long, compute([dense], layout="dense", **options)):
            assert other.loss == pytest.approx(short.loss, rel=1e-12)
            assert other.num_elements == short.num_elements == 9
            for name, values in short.batches[0].per_example.items():
                np.testing.assert_allclose(other.batches[0].per_example[name], values, rtol=1e-12, err_msg=name)

    def test_the_order_of_pixels_changes_regions_only(self) -> None:
        logits, targets = random_masks(8)
        order = np.random.default_rng(9).permutation(36)
        shuffled = Batch(
            logits.reshape(3, 4, 36)[:, :, order].reshape(3, 4, 6, 6),
            targets.reshape(3, 36)[:, order].reshape(3, 6, 6),
        )
        options: dict[str, Any] = {"layout": "dense", "outputs": [*self.OUTPUTS, "regions"]}
        (one,), (other,) = compute([Batch(logits, targets)], **options).batches, compute([shuffled], **options).batches
        for name, values in one.per_example.items():
            np.testing.assert_allclose(other.per_example[name], values, rtol=1e-12, err_msg=name)
        assert one.regions is not None
        assert other.regions is not None
        assert one.regions.offsets.tolist() != other.regions.offsets.tolist()
