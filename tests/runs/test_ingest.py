"""Validation of batches for a run, and the digest of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidIdsError
from service.runs.ingest import MAX_ID_CHARACTERS, check_batches
from service.runs.rows import content_digest
from service.schema.config import LossConfig
from service.schema.request import Batch

LOGITS, TARGETS = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 2, 0])
SIGMOID = LossConfig(mode="sigmoid")
STORED_DIGESTS: dict[str, tuple[LossConfig, list[Batch]]] = {
    "e02d357d523aa4f4a38c6231148818f0be0bce1d3d945520c392cb35e330388d": (
        LossConfig(),
        [Batch(LOGITS, TARGETS, ["a", "b", "c", "d"])],
    ),
    "df8b0e9fcdd098a50b7d4ad75c43b3bc47d29b77f9aac479a1262de209baaadf": (
        LossConfig(),
        [Batch(LOGITS, TARGETS, [1, 2**63, "3", -4])],
    ),
    "ff6645e0b28b0168e60af6359e565c01fac4851fdf5728f447fd7c7b63fce57e": (
        LossConfig(),
        [Batch(LOGITS, TARGETS, ['x","', "\\", "\n\x1f\x7f", "ä€😀"])],
    ),
    "d10c40a04729559b1c6d6d9f6fc5ec14aa298f8840c14524b3f09794115cb692": (
        LossConfig(),
        [Batch(LOGITS, TARGETS, ["a", "b", "c", "d"], {"text": ["u", None, '"', "w"], "n": [1, 2.5, None, True]})],
    ),
    "e685d887b94667ceda882fd2cfcfb02f18eba86dc3078442d88855f0943b9841": (
        SIGMOID,
        [
            Batch(
                np.array([1e300, -1, 0, 2]),
                np.array([1.0, 0, 1, -100], np.float32),
                ["a", "b", "c", "d"],
            )
        ],
    ),
}


@pytest.mark.parametrize("digest", STORED_DIGESTS)
def test_digests_equal_those_in_existing_files(digest: str) -> None:
    assert content_digest(check_batches(*STORED_DIGESTS[digest])) == digest


def test_the_split_into_batches_does_not_change_the_digest() -> None:
    parts = [
        Batch(LOGITS[:1], TARGETS[:1], ["a"]),
        Batch(LOGITS[:0], TARGETS[:0], []),
        Batch(LOGITS[1:], TARGETS[1:], ["b", "c", "d"]),
    ]
    whole = [Batch(LOGITS, TARGETS, ["a", "b", "c", "d"])]
    assert content_digest(check_batches(LossConfig(), parts)) == content_digest(check_batches(LossConfig(), whole))


def digest_of_json(ids: Sequence[str | int], attributes: Mapping[str, Sequence[Any]] | None) -> str:
    """The digest of rows of two zero logits with target 0; each row is written as JSON separately."""
    names = list(attributes or {})
    rows = [
        [str(identity), {name: attributes[name][row] for name in sorted(names)} if attributes else None]
        for row, identity in enumerate(ids)
    ]
    texts = b"".join(
        orjson.dumps([name, None if value is None else orjson.dumps(value).decode()]) + b"," for name, value in rows
    )
    parts = (np.zeros((len(ids), 2), np.float32).tobytes(), np.zeros(len(ids)).tobytes(), texts)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@given(
    st.lists(
        st.text(min_size=1, max_size=5) | st.sampled_from(['"', "\\", '","', "\x1f", " "]) | st.integers(0, 2**64 - 1),
        min_size=1,
        max_size=5,
        unique_by=str,
    ),
    st.booleans(),
)
def test_a_digest_is_computed_from_the_rows_as_json(ids: list[str | int], with_attributes: bool) -> None:
    number = len(ids)
    attributes = {"b": list(range(number)), "a": ['"'] * number} if with_attributes else None
    batch = Batch(np.zeros((number, 2), np.float32), np.zeros(number, np.int64), ids, attributes)
    assert content_digest(check_batches(LossConfig(), [batch])) == digest_of_json(ids, attributes)


class TestIds:
    def error_of(self, *ids: list[str | int]) -> InvalidIdsError:
        batches = [Batch(np.zeros((len(part), 2), np.float32), np.zeros(len(part), np.int64), part) for part in ids]
        with pytest.raises(InvalidIdsError) as error:
            check_batches(LossConfig(), batches)
        return error.value

    def test_two_ids_with_the_same_text_are_an_error_that_names_both_rows(self) -> None:
        error = self.error_of(["1", "2"], [3, 1])
        assert error.detail == "batch 1, row 1: id '1' is already that of batch 0, row 0; a run compares ids as text"
        assert error.errors[0]["loc"] == ["batches", 1, "ids", 1]

    @pytest.mark.parametrize("identity", ["", "x" * (MAX_ID_CHARACTERS + 1)])
    def test_an_empty_and_a_too_long_id_are_errors(self, identity: str) -> None:
        error = self.error_of(["a"], ["b", identity])
        assert error.detail == f"batch 1, row 1: an id has 1 to 1000 characters, got {len(identity)}"

    def test_the_length_of_an_id_is_in_characters(self) -> None:
        ids: list[str | int] = ["€" * MAX_ID_CHARACTERS, "b"]
        (batch,) = check_batches(LossConfig(), [Batch(np.zeros((2, 2), np.float32), np.zeros(2, np.int64), ids)])
        assert batch.ids.to_pylist() == ids
