"""Issues of tokens, against cleanlab 2.9.0 and its test arrays."""

from __future__ import annotations

import warnings

import cleanlab.token_classification.filter as reference
import numpy as np
import pytest
from cleanlab.internal.token_classification_utils import merge_probs
from cleanlab.token_classification.rank import get_label_quality_scores
from cleanlab.token_classification.summary import common_label_issues
from hypothesis import given
from hypothesis import strategies as st

from service.diagnostics.chunks import Booleans, Integers, softmax
from service.diagnostics.elements.class_issues import (
    ClassMarker,
    find_class_issues,
    likely_classes,
    probabilities,
    scores,
)
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.elements.label_quality import ragged_minimum, ragged_softmin
from service.diagnostics.elements.tokens import CommonWords, entities, merge_classes, ranked_places, spans
from tests.diagnostics.elements.stable import stable_sorts
from tests.diagnostics.samples import DataSet, data_set, random_data_set

P = [[0.9, 0.1, 0], [0.6, 0.2, 0.2], [0.1, 0, 0.9], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
THREE = data_set([0, 0, 1, 1, 1, 2], P)
OFFSETS = np.array([0, 2, 5, 6])


def nested(values: np.ndarray, offsets: Integers) -> list[np.ndarray]:
    return np.split(values, offsets[1:-1])


def marked(chunk: ElementChunk) -> Booleans:
    issues = find_class_issues(lambda: [chunk], chunk.num_classes)
    return ClassMarker(issues).mark(chunk)[0]


def assert_equals_cleanlab(data: DataSet, offsets: Integers) -> None:
    chunk = ElementChunk.of_tokens(data.targets, data.logits)
    p = nested(probabilities(chunk), offsets)
    labels = [part.tolist() for part in nested(data.targets, offsets)]
    words = [[f"w{j % 3}" for j in range(len(sentence))] for sentence in labels]
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        places = reference.find_label_issues(labels, p, n_jobs=1)
        common = common_label_issues(places, words, labels=labels, pred_probs=p, class_names=None, verbose=False)
    theirs, token_scores = get_label_quality_scores(labels, p)
    softmins, _ = get_label_quality_scores(labels, p, sentence_score_method="softmin")

    p_t = scores(chunk).p_t[0]
    np.testing.assert_array_equal(p_t, np.concatenate(token_scores))
    np.testing.assert_array_equal(ragged_minimum(p_t, offsets), theirs)
    np.testing.assert_allclose(ragged_softmin(p_t, offsets), softmins, atol=1e-15)
    marks = marked(chunk)
    examples, tokens = ranked_places(marks, p_t, offsets)
    assert list(zip(examples.tolist(), tokens.tolist(), strict=True)) == places
    flat = np.concatenate(words)[marks].tolist()
    counts = CommonWords()
    counts.add(flat, data.targets[marks], likely_classes(chunk, marks[None]))
    ours = counts.most_common()
    assert sorted(ours) == sorted(common.itertuples(index=False, name=None))
    assert [row[3] for row in ours] == common["num_label_issues"].tolist()


def test_three_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    p_t = scores(ElementChunk.of_tokens(THREE.targets, THREE.logits)).p_t[0]
    np.testing.assert_allclose(ragged_softmin(p_t, OFFSETS), [0.600741787, 1.80056239e-7, 0.8], rtol=1e-7)
    marks = marked(ElementChunk.of_tokens(THREE.targets, THREE.logits))
    examples, tokens = ranked_places(marks, p_t, OFFSETS)
    assert (examples.tolist(), tokens.tolist()) == ([1], [0])
    assert_equals_cleanlab(THREE, OFFSETS)


@pytest.mark.parametrize("seed", range(2))
def test_random_sentences(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    data = random_data_set(3000, 9, seed)
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, 3000), 200, replace=False))
    assert_equals_cleanlab(data, np.array([0, *cuts, 3000]))


def test_ignored_sub_words_change_nothing() -> None:
    data = random_data_set(500, 5, 0)
    ignored = np.random.default_rng(1).random(500) < 0.4
    targets = np.where(ignored, -100, data.targets)
    marks = marked(ElementChunk.of_tokens(targets, data.logits))
    kept = marked(ElementChunk.of_tokens(data.targets[~ignored], data.logits[~ignored]))
    np.testing.assert_array_equal(marks[~ignored], kept)
    assert not marks[ignored].any()


@pytest.mark.parametrize("maps", [[0, 1, 0], [-1, 1, 0], [0, -1, 0], [1, 0, 2]])
def test_merged_classes(maps: list[int]) -> None:
    targets, logits = merge_classes(THREE.targets, THREE.logits, np.array(maps))
    np.testing.assert_allclose(softmax(logits), merge_probs(np.array(P), maps), atol=1e-15)
    assert targets.tolist() == [maps[target] for target in THREE.targets]


def test_ignored_tokens_stay_ignored_when_classes_are_merged() -> None:
    targets, _ = merge_classes(np.array([-1, -100, 2]), np.zeros((3, 3)), np.array([0, 1, 1]))
    assert targets.tolist() == [-1, -1, 1]


def test_entities_of_class_names() -> None:
    names, classes = entities(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B", "E-PER"])
    assert names == ["O", "PER", "LOC", "B"]
    assert classes.tolist() == [0, 1, 1, 2, 2, 3, 1]


def test_spans_of_marked_tokens() -> None:
    marks = np.array([1, 1, 0, 1, 1, 0, 1, 0, 0, 1], np.bool_)
    counted = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 1], np.bool_)
    values = np.array([0.3, 0.1, 0.9, 0.2, 0.2, np.nan, 0.4, 0.9, np.nan, 0.5])
    found = spans(marks, counted, values, np.array([0, 2, 2, 4, 10]))
    # Token 5 is ignored and joins tokens 4 and 6; token 4 begins another example than token 3.
    assert found.examples.tolist() == [0, 2, 3, 3]
    assert found.starts.tolist() == [0, 1, 0, 5]
    assert found.stops.tolist() == [2, 2, 3, 6]
    assert found.num_marked.tolist() == [2, 1, 2, 1]
    assert found.worst.tolist() == [1, 3, 4, 9]
    assert found.scores.tolist() == [0.1, 0.2, 0.2, 0.5]


@given(st.lists(st.lists(st.sampled_from("mci"), max_size=6), min_size=1, max_size=5))
def test_spans_cover_the_marked_tokens_once(sentences: list[list[str]]) -> None:
    flat = np.array([kind for sentence in sentences for kind in sentence], "U1")
    offsets = np.cumsum([0, *map(len, sentences)])
    found = spans(flat == "m", flat != "i", np.zeros(len(flat)), offsets)
    assert found.num_marked.sum() == (flat == "m").sum()
    pieces = [piece for s in sentences for piece in "".join(s).replace("i", "").split("c") if piece]
    assert found.num_marked.tolist() == list(map(len, pieces))
    for example, start, stop in zip(found.examples, found.starts, found.stops, strict=True):
        inside = sentences[example][start:stop]
        assert inside[0] == inside[-1] == "m"
        assert "c" not in inside
