"""Rows for labelling tools: each example once, with the elements of its units."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from service.exports.elements import RowElements
from service.exports.tool_rows import by_example, element_parts, first_examples
from service.mining.queue_table import QueueTable
from tests.exports.examples import PLAIN
from tests.exports.structured_examples import unit

IDS = ["b", "a", "b", "c", "a", "b"]


def test_the_rows_of_an_example_follow_its_first_one() -> None:
    rows = pa.table({"id": IDS, "rank": range(1, 7)})
    queue = by_example(QueueTable({}, rows, {}))
    assert queue.rows.to_pylist() == [
        {"id": name, "rank": rank} for name, rank in (("b", 1), ("b", 3), ("b", 6), ("a", 2), ("a", 5), ("c", 4))
    ]


@pytest.mark.parametrize(("limit", "number"), [(0, 0), (1, 3), (2, 5), (9, 6)])
def test_the_first_examples_have_all_of_their_rows(limit: int, number: int) -> None:
    rows = [replace(PLAIN, id=name) for name in sorted(IDS, key=["b", "a", "c"].index)]
    assert first_examples(iter(rows), limit) == rows[:number]


def test_a_tool_gets_the_elements_that_it_shows() -> None:
    assert element_parts("label-studio", "masks") == element_parts("argilla", "tokens") == ["units"]
    assert element_parts("fiftyone", "masks") == ["all"]
    assert element_parts("label-studio", "multi_label") == ["units", "all"]


def test_units_of_a_queue_are_in_its_order_and_unknown_ones_are_left_out() -> None:
    spans = (unit([0, 1], [0], [1]), unit([2, 4], [2, 3], [1, 2]))
    elements = RowElements((5,), spans)
    assert elements.only(["[2,4]", "[7,8]", "[0,1]"]).units == spans[::-1]
    assert elements.only(None).units == spans
