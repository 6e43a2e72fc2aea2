"""Masks that are sent as histograms of their log-odds: the losses differ by at most the stated error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.client import LossClient
from service.client.histograms import BINS
from service.errors import InvalidRequestError, NeedsLogitsError

RNG = np.random.default_rng(6)
LOGITS = (RNG.normal(size=(3, 5, 40, 30)) * RNG.choice([0.5, 3, 12], (3, 1, 40, 30))).astype(np.float32)
TARGETS = np.where(RNG.random((3, 40, 30)) < 0.8, LOGITS.argmax(1), RNG.integers(0, 5, (3, 40, 30)))
TARGETS[0, :5] = -100
IDS = ["a", "b", "c"]


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
@pytest.mark.parametrize("alpha", [None, [0.1, 1.0, 2.0, 0.5, 3.0]])
def test_losses_are_within_the_stated_error(loss_client: LossClient, gamma: float, alpha: Any) -> None:
    config = {"gamma": gamma, "alpha": alpha}
    full = loss_client.loss(LOGITS, TARGETS, config=config, layout="dense")
    thin = loss_client.loss(LOGITS, TARGETS, config=config, layout="dense", reduce="histogram")
    bound = 1.2 * (1 + gamma) ** 2 / 512
    np.testing.assert_allclose(thin.batches[0].per_example["loss"], full.batches[0].per_example["loss"], rtol=bound)
    assert thin.loss == pytest.approx(full.loss, rel=bound)
    assert thin.batches[0].num_elements == full.batches[0].num_elements


def test_tails_are_exact(loss_client: LossClient) -> None:
    z = np.array([-400.0, -16.5, -17, 16.5, 40, 18], np.float32).reshape(1, 6)
    logits = np.stack([z, np.zeros_like(z)], axis=1)
    targets = np.zeros((1, 6), np.int64)
    for gamma in (0, 2):
        full = loss_client.loss(logits, targets, config={"gamma": gamma}, layout="dense")
        thin = loss_client.loss(logits, targets, config={"gamma": gamma}, layout="dense", reduce="histogram")
        assert thin.loss == pytest.approx(full.loss, rel=1e-6)


def test_a_run_of_masks_takes_histograms(loss_client: LossClient) -> None:
    full, thin = (loss_client.put_run(name, task="masks") for name in ("masks-full", "masks-thin"))
    full.push(0, "b", LOGITS, TARGETS, IDS)
    thin.push(0, "b", LOGITS, TARGETS, IDS, reduce="histogram")
    for gamma in (0, 2, 5):
        losses = [[row["loss"] for row in run.examples(sort="id", gamma=gamma)["rows"]] for run in (full, thin)]
        assert losses[1] == pytest.approx(losses[0], rel=1.2 * (1 + gamma) ** 2 / 512)
    elements = thin.diagnostics()["elements"]
    assert elements["num_valid"] == int((TARGETS != -100).sum())
    assert (elements["error_rate"], elements["label_issues"], elements["num_units"]) == (None, None, 0)
    for run in (full, thin):
        run.delete()


def test_binary_masks(loss_client: LossClient) -> None:
    logits, targets = LOGITS[:, 0], (TARGETS > 2).astype(np.int64)
    config = {"mode": "sigmoid", "alpha": 0.25}
    full = loss_client.loss(logits, targets, config=config, layout="dense")
    thin = loss_client.loss(logits, targets, config=config, layout="dense", reduce="histogram")
    assert thin.loss == pytest.approx(full.loss, rel=1.2 * 9 / 512)


def test_a_histogram_is_small(loss_client: LossClient) -> None:
    sizes = [np.unique(TARGETS[mask]).size * BINS for mask in range(3)]
    reply = loss_client.loss(LOGITS, TARGETS, layout="dense", reduce="histogram", elements=["loss"])
    offsets = reply.batches[0].offsets
    assert offsets is not None
    assert np.all(np.diff(offsets) < np.minimum(sizes, 40 * 30))


def test_what_needs_the_single_elements_is_an_error(loss_client: LossClient) -> None:
    with pytest.raises(NeedsLogitsError, match="regions needs the single elements"):
        loss_client.loss(LOGITS, TARGETS, layout="dense", reduce="histogram", outputs=["regions"])
    with pytest.raises(InvalidRequestError, match="histograms are for the layout dense"):
        loss_client.loss(LOGITS[:, :, 0, 0], TARGETS[:, 0, 0] % 2, reduce="histogram")
    with pytest.raises(InvalidRequestError, match="no place for an invalid element"):
        bad = np.where(TARGETS == 1, 99, TARGETS)
        loss_client.loss(LOGITS, bad, layout="dense", reduce="histogram", on_invalid="exclude")
