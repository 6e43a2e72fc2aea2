"""The rules by which cleanlab's `find_label_issues` marks elements, and what each of them ranks."""

from __future__ import annotations

from typing import Literal

import numpy as np

from service.diagnostics.chunks import Integers
from service.diagnostics.elements.cutoffs import ALL
from service.diagnostics.label_errors import ConfidentLearning

FilterName = Literal[
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_self_confidence",
    "low_normalized_margin",
]
Ranking = Literal["pair_margin", "class_confidence", "confidence", "margin"]

RANKINGS: dict[FilterName, tuple[Ranking, ...]] = {
    "prune_by_noise_rate": ("pair_margin",),
    "prune_by_class": ("class_confidence",),
    "both": ("pair_margin", "class_confidence"),
    "confident_learning": (),
    "predicted_neq_given": (),
    "low_self_confidence": ("confidence",),
    "low_normalized_margin": ("margin",),
}
"""An element is marked if every ranking of the filter takes it.

Within a pair (label, other class) `pair_margin` takes the largest p_other - p_label; within a label `class_confidence`
takes the smallest p_label; `confidence` and `margin` take the smallest p_label and (p_label - max p_other + 1) / 2.
"""

REDUCED: frozenset[FilterName] = frozenset(RANKINGS) - {"low_self_confidence", "low_normalized_margin"}
"""The filters that never mark an element whose label is its most likely class."""


def num_wanted(ranking: Ranking, learned: ConfidentLearning) -> Integers:
    """Number of elements that a ranking takes.

    Returns:
        `pair_margin`: (C, C) int64, by label and other class; `class_confidence`: (C,); else (1,).
    """
    joint, counts = learned.calibrated_joint, learned.counts
    if ranking in {"confidence", "margin"}:
        return np.array([learned.num_label_issues])
    # At least one element of each class is kept: see cleanlab's `_keep_at_least_n_per_class`.
    kept = np.maximum(joint.diagonal(), 1)
    pruned = counts > 1
    if ranking == "class_confidence":
        return np.where(pruned, np.maximum(counts - kept, 0), 0)
    wanted: Integers = np.zeros((joint.num_classes, joint.num_classes), np.int64)
    num_pairs = np.bincount(joint.first[joint.counts > 0], minlength=joint.num_classes)
    surplus = (kept - joint.diagonal()) / np.maximum(num_pairs - 1, 1)
    wanted[joint.first, joint.second] = np.maximum(joint.counts - surplus[joint.first], 0)
    np.fill_diagonal(wanted, 0)
    return wanted * pruned[:, None]


def all_if_enough(wanted: Integers, available: Integers) -> Integers:
    """`wanted`, but `ALL` where at most that many are available."""
    return np.where((wanted > 0) & (wanted >= available), ALL, wanted)
