"""Labels in the form in which a file has them."""

from __future__ import annotations

from typing import Any

import pytest

from service.cli.relabel.labels import class_of, label_like
from service.formats.labels import ClassNames

NAMES = ClassNames(["cat", "2", " x", "true"])


@pytest.mark.parametrize(
    ("value", "names", "label", "new"),
    [
        ("cat", NAMES, 1, "2"),
        (" cat ", NAMES, 3, " true "),
        (" x", NAMES, 0, "cat"),
        ("true", NAMES, 0, "cat"),
        ("0", NAMES, 1, "1"),
        ("0", None, 12, "12"),
        (" 0", None, 2, " 2"),
        ("1.0", None, 2, "2.0"),
        ("1,0", None, 2, "2,0"),
        ("true", None, 0, "false"),
        ("TRUE", None, 0, "FALSE"),
        ("False", None, 1, "True"),
        ("False", None, 2, "2"),
        (0, None, 3, 3),
        (0.0, NAMES, 3, 3.0),
        (False, None, 1, True),
        (False, None, 2, 2),
    ],
)
def test_a_label_is_written_as_the_file_writes_its_labels(
    value: Any, names: ClassNames | None, label: int, new: Any
) -> None:
    written = label_like(value, label, names)
    assert (written, type(written)) == (new, type(new))
    if names is None or not isinstance(value, str) or names.named(value) is not None:
        assert class_of(written, names) == label


@pytest.mark.parametrize("value", [None, "", "dog", 0.5, float("nan"), "1e999"])
def test_other_values_are_no_class(value: Any) -> None:
    assert class_of(value, NAMES) is None
