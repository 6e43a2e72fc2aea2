"""FiftyOne's `labels.json` of a FiftyOneImageClassificationDataset.

    dataset.merge_dir(data_path="images/", labels_path="run.labels.json", label_field="focal",
                      dataset_type=fo.types.FiftyOneImageClassificationDataset)

A sample's label is what the model says: its suggestion with the probability as confidence, or, where it has no other
class, the given label without confidence. The given label stands beside it as the attribute `given_label`, so that the
App shows both, `F("focal.given_label") != F("focal.label")` finds what to review and `sort_by("focal.rank")` orders it.
Import it into a field of its own: the data set's ground truth stays what it is.

FiftyOne finds an image by its path in the data folder without the ending. That is made of the attribute
`options.image_key` where there is one (URL: its path; less `options.image_root`), and of the id otherwise, whose ending
is left out only if it is an image's. Two images whose paths differ in the ending alone are one to FiftyOne.

Source: fiftyone/utils/data/importers.py FiftyOneImageClassificationDatasetImporter (`setup`, `__next__`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from service.exports.json_stream import dump, listed
from service.exports.rows import ExportOptions, ExportRow, beside, probability, tool_fields

# What fiftyone.core.labels.Classification calls its own.
OWN_NAMES = ("id", "label", "tags", "confidence", "logits", "attributes")
IMAGE_ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def write_fiftyone(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """One JSON object: `classes` where their names are known, and `labels` by image."""
    opening = b"{" if options.class_names is None else b'{"classes":' + dump(options.class_names) + b","
    labels = (dump(image_key(row, options)) + b":" + dump(classification(row, options)) for row in rows)
    return listed(opening + b'"labels":{', labels, b"\n}}\n")


def classification(row: ExportRow, options: ExportOptions) -> dict[str, Any]:
    """What the model says of an image; `label` is an index into the classes where their names are known.

    Of the user's attributes those that FiftyOne can keep beside a label: single values under names that Python could
    give a variable (it stores fields in MongoDB, whose names have neither `.` nor `$`).
    """
    agrees = row.suggested is None or row.suggested_label is None
    index, name = (row.target, row.given_label) if agrees else (row.suggested, row.suggested_label)
    fields = tool_fields(row)
    kept = {
        name: value
        for name, value in row.attributes.items()
        if name.isidentifier() and not name.startswith("_") and isinstance(value, str | int | float)
    }
    label = {"label": name if options.class_names is None else index}
    p = probability(row)
    confidence = {} if agrees or p is None else {"confidence": p}
    return label | confidence | {"attributes": beside(kept, (*fields, *OWN_NAMES)) | fields}


def image_key(row: ExportRow, options: ExportOptions) -> str:
    """Path of the image in the data folder, without its ending; the id where no path is known."""
    path = row.attributes.get(options.image_key)
    if not isinstance(path, str) or not path:
        stem, ending = posixpath.splitext(row.id)
        return stem if ending.lower() in IMAGE_ENDINGS else row.id
    if "://" in path:
        path = unquote(urlsplit(path).path)
    path = path.removeprefix(options.image_root.rstrip("/") + "/").lstrip("/")
    return posixpath.splitext(posixpath.normpath(path))[0]
