"""Confident learning against cleanlab 2.9.0: on cleanlab's test arrays, on random data, and on data with many ties."""

from __future__ import annotations

import functools
import tracemalloc
from unittest import mock

import cleanlab
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.diagnostics.chunks import Chunk, Chunks
from service.diagnostics.label_errors import ConfidentLearning, confident_learning, suspected
from service.diagnostics.pair_counts import PairCounts
from tests.diagnostics.samples import DataSet, data_set, data_sets, dense, random_data_set
from tests.lanes import mostly_slow

REMOVED_CLASS = (
    [0, 0, 0, 0, 1, 2, 2, 2],
    [[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.1, 0, 0.9], [0.9, 0, 0.1], [0.1, 0.3, 0.6], *3 * [[0.1, 0, 0.9]]],
)
ONE_WRONG = (
    [0, 0, *7 * [1], 2],
    [[0.9, 0.1, 0], [0.6, 0.2, 0.2], [0.1, 0, 0.9], *6 * [[0.1, 0.8, 0.1]], [0.1, 0.1, 0.8]],
)
FIRST_OF_TWO = [
    *(0.7110397298505661, 0.6367131487519773, 0.7571834730987641, 0.6394163729473307, 0.5853684039196656),
    *(0.6675968116482668, 0.7240647829106976, 0.740474240697777, 0.7148252196621883),
]
ISSUE_158 = [
    [0.27916167, 0.14589103, 0.29264585, 0.28230144],
    [0.13429196, 0.12536383, 0.47943979, 0.26090442],
    [0.41348584, 0.13463275, 0.25845595, 0.19342546],
    [0.27753469, 0.12295569, 0.33125886, 0.26825075],
    [0.11649856, 0.11219034, 0.51857122, 0.25273988],
    [0.38010026, 0.25572261, 0.13305410, 0.23112304],
    [0.31583755, 0.13630690, 0.29246806, 0.25538750],
    [0.30240076, 0.16925207, 0.26499082, 0.26335636],
    [0.44524505, 0.27410085, 0.08305069, 0.19760341],
    [0.22903975, 0.07783631, 0.38035414, 0.31276980],
    [0.25071560, 0.12072900, 0.32551729, 0.30303812],
    [0.43809229, 0.14401381, 0.20839300, 0.20950090],
    [0.20749181, 0.11883556, 0.38402152, 0.28965111],
    [0.43840254, 0.13538447, 0.24518806, 0.18102493],
    [0.28504779, 0.10309750, 0.34258602, 0.26926868],
    [0.38425408, 0.29168969, 0.15181255, 0.17224368],
    [0.19339907, 0.10804265, 0.37570368, 0.32285460],
    [0.21509781, 0.07190167, 0.38914722, 0.32385330],
    [0.27040334, 0.13037840, 0.32842320, 0.27079507],
    [0.40590210, 0.16713560, 0.24889193, 0.17807036],
]


def learn(data: DataSet, size: int | None = None) -> ConfidentLearning:
    return confident_learning(data.chunks(size), data.num_classes)


def identical(first: ConfidentLearning, second: ConfidentLearning) -> bool:
    """True if all arrays have the same bits."""
    matrices = ("confident_joint", "calibrated_joint", "suspects")
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("thresholds", "counts")
    ) and all(np.array_equal(dense(getattr(first, name)), dense(getattr(second, name))) for name in matrices)


def assert_equals_cleanlab(data: DataSet, size: int | None = None) -> None:
    """Compare every number that cleanlab has too.

    Its sort is replaced by a stable sort, as the AVX-512, AVX2 and plain sorts of numpy order ties differently.
    """
    learned, inputs = learn(data, size), {"labels": data.targets, "pred_probs": data.p}
    with mock.patch.object(np, "argsort", functools.partial(np.argsort, kind="stable")):
        thresholds = cleanlab.count.get_confident_thresholds(**inputs)
        joint = cleanlab.count.compute_confident_joint(**inputs, calibrate=False)
        calibrated = cleanlab.count.compute_confident_joint(**inputs, calibrate=True)
        q = cleanlab.count.estimate_joint(**inputs)
        off_diagonal = cleanlab.count.num_label_issues(**inputs, estimation_method="off_diagonal")
        off_diagonal_calibrated = cleanlab.count.num_label_issues(**inputs, estimation_method="off_diagonal_calibrated")
        flagged = cleanlab.filter.find_label_issues(**inputs, filter_by="confident_learning", n_jobs=1)
        health = cleanlab.dataset.overall_label_health_score(**inputs, verbose=False)
        table = cleanlab.dataset.rank_classes_by_label_quality(**inputs).sort_values("Class Index")
        pairs = cleanlab.dataset.find_overlapping_classes(**inputs)

    np.testing.assert_allclose(learned.thresholds, thresholds, rtol=1e-13, atol=2**-52)
    np.testing.assert_array_equal(dense(learned.confident_joint), joint)
    np.testing.assert_array_equal(dense(learned.calibrated_joint), calibrated)
    np.testing.assert_allclose(dense(learned.calibrated_joint) / learned.num_examples, q, atol=1e-15)
    assert (learned.num_label_issues, learned.num_label_issues_calibrated) == (off_diagonal, off_diagonal_calibrated)
    np.testing.assert_array_equal(suspected(data.whole(), learned)[0], flagged)
    assert learned.health == pytest.approx(health, abs=1e-15)
    columns = {
        "Label Issues": learned.label_issues,
        "Inverse Label Issues": learned.inverse_label_issues,
        "Label Noise": learned.label_noise,
        "Inverse Label Noise": learned.inverse_label_noise,
        "Label Quality Score": learned.label_quality,
    }
    for name, values in columns.items():
        np.testing.assert_allclose(values, table[name].to_numpy(), atol=1e-12, err_msg=name)
    expected = {(a, b): (n, share) for a, b, n, share in pairs.itertuples(index=False) if n}
    ours = learned.overlapping_classes()
    assert {
        (pair["first"], pair["second"]): (pair["count"], pytest.approx(pair["probability"])) for pair in ours
    } == expected
    assert [pair["count"] for pair in ours] == sorted((n for n, _ in expected.values()), reverse=True)


def test_a_label_error_among_eight_rows() -> None:
    data = data_set(*REMOVED_CLASS)
    learned = learn(data)
    np.testing.assert_allclose(learned.thresholds, [0.675, 0.3, 0.9])
    assert dense(learned.confident_joint).tolist() == [[3, 0, 1], [0, 1, 0], [0, 0, 3]]
    assert dense(learned.calibrated_joint).tolist() == [[3, 0, 1], [0, 1, 0], [0, 0, 3]]
    mask, suggested = suspected(data.whole(), learned)
    assert np.flatnonzero(mask).tolist() == [2]
    assert suggested.tolist() == [0, 0, 2, 0, 1, 2, 2, 2]
    assert learned.most_confused.tolist() == [2, -1, -1]
    assert learned.overlapping_classes() == [{"first": 0, "second": 2, "count": 1, "probability": 0.125}]
    assert_equals_cleanlab(data)


def test_a_class_without_rows() -> None:
    data = data_set([0, 0, 0, 0, 2, 2, 2, 2], REMOVED_CLASS[1])
    learned = learn(data)
    assert learned.thresholds[1] == 2
    assert dense(learned.confident_joint)[1].tolist() == [0, 1, 0]
    assert dense(learned.calibrated_joint).tolist() == [[3, 0, 1], [0, 0, 0], [0, 0, 4]]
    assert (learned.label_noise[1], learned.label_quality[1], learned.inverse_label_noise[1]) == (0, 1, 0)
    assert_equals_cleanlab(data)


def test_the_two_estimates_differ() -> None:
    p = np.array(FIRST_OF_TWO)
    data = data_set([0, 1, 1, 1, 1, 0, 0, 1, 0], np.stack([p, 1 - p], axis=1))
    learned = learn(data)
    np.testing.assert_allclose(learned.thresholds, [0.704382, 0.328169], atol=1e-6)
    assert dense(learned.confident_joint).tolist() == [[3, 1], [2, 3]]
    assert (learned.num_label_issues, learned.num_label_issues_calibrated) == (2, 3)
    assert_equals_cleanlab(data)


def test_health_and_class_noise() -> None:
    data = data_set(*ONE_WRONG)
    learned = learn(data)
    assert np.flatnonzero(suspected(data.whole(), learned)[0]).tolist() == [2]
    assert learned.health == 0.9
    assert learned.label_noise.tolist() == [0, 1 / 7, 0]
    assert dense(learned.suspects).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert_equals_cleanlab(data)


@pytest.mark.parametrize("last", [[0.95, 0, 0.05, 0], [0.9, 0.025, 0.025, 0.05]])
def test_absent_classes(last: list[float]) -> None:
    rows = [[0.9, 0.1, 0, 0], [0.8, 0.1, 0.1, 0], [0.1, 0, 0.9, 0], last]
    data = data_set([0, 0, 2, 2], rows)
    assert suspected(data.whole(), learn(data))[0].tolist() == [False, False, False, True]
    assert_equals_cleanlab(data)


def test_a_model_that_confuses_everything_gives_numbers() -> None:
    data = data_set([3, 3, 1, 3, 0, 2, 2, 2, 0, 2, 2, 1, 0, 0, 0, 0, 2, 1, 3, 3], ISSUE_158)
    learned = learn(data)
    assert dense(learned.confident_joint).diagonal().all()
    assert np.isfinite(learned.label_noise).all()
    assert np.isfinite(learned.inverse_label_noise).all()
    assert_equals_cleanlab(data)


@pytest.mark.parametrize("size", [7, None])
def test_thousands_of_equal_rows(size: int | None) -> None:
    targets, p = np.repeat([1, 0], 2500), np.tile([0.95, 0.05, 0, 0], (5000, 1))
    p[0] = [0.94, 0.06, 0, 0]
    data = data_set(targets, p)
    mask, suggested = suspected(data.whole(), learn(data, size))
    # Row 0 raises the mean of class 1, so that no other row reaches the threshold; it misses the threshold of class 0.
    assert np.flatnonzero(mask).tolist() == list(range(1, 2500))
    assert suggested.tolist() == [1, *4999 * [0]]
    assert_equals_cleanlab(data, size)


def test_a_hundred_classes_of_tied_probabilities() -> None:
    weights = np.random.default_rng(0).integers(1, 100, (5000, 100))
    assert_equals_cleanlab(data_set(np.repeat(np.arange(100), 50), weights / weights.sum(axis=1, keepdims=True)), 1000)


@pytest.mark.slow
def test_a_thousand_classes() -> None:
    assert_equals_cleanlab(random_data_set(4000, 1000, 1, signal=6), 1000)


def test_rows_that_reach_no_threshold_are_not_counted() -> None:
    data = data_set([0, 0, 1, 1], [[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.5, 0.5]])
    mask, suggested = suspected(data.whole(), learn(data))
    assert suggested.tolist() == [0, -1, 1, -1]
    assert not mask.any()
    assert_equals_cleanlab(data)


def test_the_diagonal_is_at_least_one_if_every_row_is_confidently_another_class() -> None:
    data = data_set([0, 0, 1, 1], [[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
    assert dense(learn(data).confident_joint).tolist() == [[1, 2], [2, 1]]
    assert_equals_cleanlab(data)


@settings(deadline=None)
@given(data_sets(), st.sampled_from([1, 7, None]))
def test_equals_cleanlab(data: DataSet, size: int | None) -> None:
    assume(len(np.unique(data.targets)) > 1)  # cleanlab rejects a single label
    assert_equals_cleanlab(data, size)


@pytest.mark.parametrize("seed", mostly_slow(range(3), quick=1))
@pytest.mark.parametrize(("rows", "classes", "missing"), [(60, 2, 0), (500, 3, 1), (2000, 10, 3), (3000, 40, 5)])
def test_equals_cleanlab_on_random_data(rows: int, classes: int, missing: int, seed: int) -> None:
    assert_equals_cleanlab(random_data_set(rows, classes, seed, missing=missing), 256)


@settings(deadline=None)
@given(data_sets(), st.randoms(use_true_random=False))
def test_bits_depend_on_neither_chunks_nor_order_nor_memory_layout(data: DataSet, random: object) -> None:
    whole = learn(data)
    order = np.random.default_rng(random.getrandbits(32)).permutation(len(data.targets))  # type: ignore[attr-defined]
    shuffled = DataSet(data.targets[order], np.asfortranarray(data.logits[order]))
    assert all(identical(whole, learn(other, size)) for other in (data, shuffled) for size in (1, 7, None))


@pytest.mark.slow
def test_bits_of_a_larger_data_set_do_not_depend_on_chunks() -> None:
    data = random_data_set(5000, 12, 3)
    whole = learn(data)
    assert all(identical(whole, learn(data, size)) for size in (1, 7, 1000))


@settings(deadline=None)
@given(data_sets())
def test_invariants(data: DataSet) -> None:
    learned = learn(data)
    mask, suggested = suspected(data.whole(), learned)
    np.testing.assert_array_equal(learned.counts, np.bincount(data.targets, minlength=data.num_classes))
    np.testing.assert_array_equal(dense(learned.calibrated_joint).sum(axis=1), learned.counts)
    assert dense(learned.calibrated_joint).min() >= 0
    assert not mask[data.p.argmax(axis=1) == data.targets].any()
    pairs = np.zeros((data.num_classes, data.num_classes))
    for target, other in zip(data.targets[mask], suggested[mask], strict=True):
        pairs[target, other] += 1
    np.testing.assert_array_equal(dense(learned.suspects), pairs)
    for k, other in enumerate(learned.most_confused):
        row = [(-count, j) for j, count in enumerate(dense(learned.calibrated_joint)[k]) if j != k and count]
        assert other == (min(row)[1] if row else -1)


def test_overlapping_classes_are_sorted_and_limited() -> None:
    joint = np.array([[5, 1, 2, 0], [1, 5, 0, 3], [1, 0, 5, 0], [0, 0, 0, 5]])
    pairs = PairCounts(4, *np.nonzero(joint), joint[joint > 0])
    learned = ConfidentLearning(np.ones(4), joint.sum(axis=1), pairs, pairs, pairs)
    share = 1 / joint.sum()
    expected = [
        {"first": first, "second": second, "count": count, "probability": count * share}
        for first, second, count in ((0, 2, 3), (1, 3, 3), (0, 1, 2))
    ]
    assert learned.overlapping_classes() == expected
    assert learned.overlapping_classes(2) == expected[:2]


def test_a_missing_unit_goes_to_the_last_class_with_an_equal_remainder() -> None:
    # Two of five rows of class 0 are confident, one in each class: both counts are 2 1/2 and round to 2, with a sum
    # of 4 in place of 5.
    p = [[0.9, 0.1], [0.1, 0.9], *3 * [[0.49, 0.51]], *2 * [[0.2, 0.8]]]
    learned = learn(data_set([0, 0, 0, 0, 0, 1, 1], p))
    assert dense(learned.confident_joint).tolist() == [[1, 1], [0, 2]]
    assert dense(learned.calibrated_joint).tolist() == [[2, 3], [0, 2]]


def test_a_threshold_has_a_tolerance_of_a_millionth() -> None:
    def suggested_at(below: float) -> int:
        p = [[0.5 + below, 0.5 - below], [0.5 - below, 0.5 + below], [0.2, 0.8], [0.2, 0.8]]
        data = data_set([0, 0, 1, 1], p)
        return int(suspected(data.whole(), learn(data))[1][1])

    assert suggested_at(0.9e-6) == 0
    assert suggested_at(1.1e-6) == -1


def test_a_tie_with_the_label_is_not_a_label_error() -> None:
    def flagged(lead: float) -> bool:
        # The thresholds are 0.45 for class 0 and 0.7 for class 1: row 1 reaches that of class 0 only.
        p = [[0.45, 0.1, 0.45], [0.5 + lead, 0.5 - lead, 0], [0, 0.9, 0.1]]
        data = data_set([0, 1, 1], p)
        return bool(suspected(data.whole(), learn(data))[0][1])

    assert not flagged(0)
    assert not flagged(0.4e-6)
    assert flagged(0.6e-6)


def test_thresholds_are_at_least_two_millionths() -> None:
    data = data_set([0, 1], [[1e-9, 1 - 1e-9], [1e-9, 1 - 1e-9]])
    assert learn(data).thresholds[0] == 2e-6


@pytest.mark.parametrize("chunks", [lambda: iter([]), lambda: [Chunk(np.zeros(0, np.int64), np.zeros((0, 3)))]])
def test_no_rows(chunks: Chunks) -> None:
    learned = confident_learning(chunks, 3)
    assert dense(learned.confident_joint).tolist() == np.eye(3).tolist()
    assert learned.health is None
    assert (learned.num_examples, learned.num_label_issues, learned.num_label_issues_calibrated) == (0, 0, 0)
    assert learned.thresholds.tolist() == [2, 2, 2]
    assert not len(learned.calibrated_joint.counts)
    assert not learned.label_noise.any()
    assert learned.most_confused.tolist() == [-1, -1, -1]
    assert learned.overlapping_classes() == []


def test_one_class() -> None:
    learned = learn(DataSet(np.zeros(3, np.int64), np.array([[1.0], [2], [-3]])))
    assert dense(learned.calibrated_joint).tolist() == [[3]]
    assert learned.health == 1


def test_another_number_of_classes_is_rejected() -> None:
    data = random_data_set(9, 3, 0)
    with pytest.raises(ValueError, match="3 classes, not 4"):
        confident_learning(data.chunks(), 4)
    with pytest.raises(ValueError, match="2 classes, not 3"):
        suspected(random_data_set(9, 2, 0).whole(), learn(data))


def test_two_passes_in_constant_memory() -> None:
    def peak(number: int) -> int:
        block = random_data_set(500, 6, 0).whole()
        passes: list[None] = []

        def chunks() -> list[Chunk]:
            passes.append(None)
            return [block] * number

        tracemalloc.start()
        confident_learning(chunks, 6)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(passes) == 2
        return highest

    assert peak(400) < peak(40) + 10_000
