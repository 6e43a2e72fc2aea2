"""CROWDLAB and the table of annotators against cleanlab 2.9.0, and the order of classes with equal support."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.diagnostics.annotators.annotations import Annotations, counted
from service.diagnostics.annotators.annotator_table import AnnotatorTable, annotator_table
from service.diagnostics.annotators.crowdlab import Consensus, crowdlab
from service.diagnostics.annotators.model_votes import model_votes
from tests.diagnostics.annotators.crowds import FIXTURE, Crowd, random_crowd

NAN = np.nan


def consensus(crowd: Crowd, size: int = 3) -> tuple[Consensus, AnnotatorTable]:
    annotations = crowd.annotations
    result = crowdlab(annotations, model_votes(annotations, crowd.chunks(size)))
    return result, annotator_table(annotations, result)


def test_the_published_values_of_the_fixture() -> None:
    result, table = consensus(FIXTURE)
    quality = [0.635559750, 0.827466336, 0.617958758, 0.761203391, 0.708148927, 0.504910745, 0.876759254, 0.876759254]
    assert result.labels.tolist() == [0, 1, 2, 2, 1, 0, 2, 0]
    np.testing.assert_allclose(result.quality, quality, atol=5e-10)
    assert result.weights.model == pytest.approx(1.620185174602, abs=5e-13)
    np.testing.assert_allclose(result.weights.annotators, [0.6, 0.466667, 0.6], atol=5e-7)
    np.testing.assert_allclose(table.quality, [0.853208, 0.690179, 0.777934], atol=5e-7)
    assert table.num_labels.tolist() == table.num_shared.tolist() == [7, 7, 7]


@given(
    seed=st.integers(0, 2**32),
    annotators=st.integers(2, 6),
    classes=st.integers(2, 6),
    density=st.sampled_from([0.15, 0.4, 0.7, 1]),
    size=st.integers(1, 40),
)
def test_equals_cleanlab(seed: int, annotators: int, classes: int, density: float, size: int) -> None:
    crowd = random_crowd(seed, 30, annotators, classes, density)
    assume(crowd.annotations.has_several.any())
    result, table = consensus(crowd, size)
    expected = crowd.cleanlab()
    examples, people = expected["label_quality"], expected["annotator_stats"].sort_index()
    assert result.labels.tolist() == examples["consensus_label"].tolist()
    np.testing.assert_allclose(result.quality, examples["consensus_quality_score"], atol=1e-9)
    np.testing.assert_allclose(result.agreement, examples["annotator_agreement"], atol=1e-9)
    assert result.weights.model == pytest.approx(expected["model_weight"], abs=1e-9)
    np.testing.assert_allclose(result.weights.annotators, expected["annotator_weight"], atol=1e-9)
    np.testing.assert_allclose(table.quality, people["annotator_quality"], atol=1e-9)
    np.testing.assert_allclose(table.agreement, people["agreement_with_consensus"], atol=1e-9)
    assert table.num_labels.tolist() == people["num_examples_labeled"].tolist()
    assert table.worst_class.tolist() == people["worst_class"].tolist()


@pytest.mark.parametrize(
    ("labels", "p", "expected"),
    [
        # One vote each: the class that the model finds likelier.
        ([2, 1, NAN], [0.2, 0.3, 0.5], 2),
        ([1, 2, NAN], [0.2, 0.5, 0.3], 1),
        # The model finds them equal too: the smaller number. cleanlab chooses at random.
        ([2, 1, NAN], [0.2, 0.4, 0.4], 1),
        ([1, 2, NAN], [0.2, 0.4, 0.4], 1),
        # Most votes win over the number.
        ([2, 2, 1], [0.2, 0.4, 0.4], 2),
    ],
)
def test_ties_go_to_the_model_then_to_the_smaller_class(labels: list[float], p: list[float], expected: int) -> None:
    # Three annotators of equal weight, who agree on the other examples.
    others = [[0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 0, 0]]
    crowd = Crowd(np.array([labels, *others]), np.array([p, *(np.eye(3)[row[0]] * 0.7 + 0.1 for row in others)]))
    result, _ = consensus(crowd)
    assert len({*result.weights.annotators.round(9).tolist()}) <= 2
    assert result.labels.tolist() == [expected, 0, 1, 2, 0]


def test_a_good_model_outvotes_a_single_annotator_of_little_skill() -> None:
    crowd = random_crowd(3, examples=200, annotators=4, density=1)
    labels, model = crowd.labels.copy(), crowd.cleanlab()["label_quality"]["consensus_label"].to_numpy().astype(int)
    labels[-1] = [np.nan, np.nan, np.nan, (model[-1] + 1) % 4]
    result, _ = consensus(Crowd(labels, np.eye(4)[model] * 0.96 + 0.01))
    assert result.labels[-1] == model[-1]
    assert result.agreement[-1] == 0


def test_one_label_for_each_example_is_its_consensus() -> None:
    labels = np.array([[0, NAN], [NAN, 2], [1, NAN], [NAN, NAN]])
    crowd = Crowd(labels, FIXTURE.p[:4])
    result, table = consensus(crowd)
    assert result.labels.tolist() == [0, 2, 1]
    assert result.quality.tolist() == [0.7, 0.1, 0.1]
    assert not result.weights.is_estimated
    assert table.num_shared.tolist() == [0, 0]
    np.testing.assert_allclose(table.quality, [0.4, 0.1])


def test_without_annotations_there_is_no_consensus() -> None:
    nothing = np.empty(0, np.int64)
    annotations = Annotations.of(nothing, nothing, nothing, 0, 3)
    result = crowdlab(annotations, model_votes(annotations, [FIXTURE.p]))
    assert len(result.labels) == len(result.quality) == len(annotator_table(annotations, result).quality) == 0


@given(keys=st.lists(st.integers(0, 9), max_size=30), size=st.sampled_from([10, 1_000]))
def test_keys_are_counted_alike_with_and_without_sorting(keys: list[int], size: int) -> None:
    values = np.array(keys, np.int64)
    expected = np.unique(values, return_inverse=True, return_counts=True)
    for found, wanted in zip(counted(values, size), expected, strict=True):
        assert found.tolist() == wanted.tolist()


def test_annotations_may_come_in_any_order() -> None:
    examples, annotators = np.nonzero(~np.isnan(FIXTURE.labels))
    labels = FIXTURE.labels[examples, annotators].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = Annotations.of(examples[order], annotators[order], labels[order], 3, 3)
    result = crowdlab(shuffled, model_votes(shuffled, [FIXTURE.p]))
    np.testing.assert_allclose(result.quality, consensus(FIXTURE)[0].quality, rtol=1e-12)
