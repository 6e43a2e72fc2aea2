"""The `labels.json` of a FiftyOneImageClassificationDataset.

    dataset.merge_dir(data_path="images/", labels_path="run.labels.json", label_field="focal",
                      dataset_type=fo.types.FiftyOneImageClassificationDataset)

The label of a sample is the class that the model suggests, with its probability as confidence. If the model suggests no
other class, it is the given label with its own probability, p_t. The attribute `given_label` holds the given label, so
that the App shows both, `F("focal.given_label") != F("focal.label")` selects the samples to review and
`sort_by("focal.rank")` orders them. Import the file into a field of its own, which leaves the ground truth of the data
set unchanged.

FiftyOne identifies an image by its path in the data folder without the file extension, or by its absolute path with it.
The path is the attribute `options.image_key` (of a URL its path) without `options.image_root`. Without this attribute
it is the id, whose extension is removed only if it is that of an image. FiftyOne cannot tell two images of the data
folder apart whose paths differ only in the extension, and it raises KeyError for an image that is not there.

Source: fiftyone/utils/data/importers.py FiftyOneImageClassificationDatasetImporter (`setup`, `__next__`).
"""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

from service.exports.json_stream import dump, join_items
from service.exports.rows import ExportOptions, ExportRow, probability, rename_reserved, tool_fields, unit
from service.schema.json_values import JsonObject
from service.schema.replies.exports import Classification

# Names that fiftyone.core.labels.Classification uses itself.
OWN_NAMES = ("id", "label", "tags", "confidence", "logits", "attributes")
IMAGE_EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def write_fiftyone(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSON object with `classes`, if their names are known, and `labels` by image."""
    opening = b"{" if options.class_names is None else b'{"classes":' + dump(options.class_names) + b","
    labels = (dump(image_key(row, options)) + b":" + dump(classification(row, options)) for row in rows)
    return join_items(opening + b'"labels":{', labels, b"\n}}\n")


def classification(row: ExportRow, options: ExportOptions) -> Classification:
    """The classification of an image; `label` is an index into the classes if their names are known.

    It includes the attributes that FiftyOne can store with a label: texts, numbers and booleans whose names are Python
    identifiers (FiftyOne stores them in MongoDB, whose names have neither `.` nor `$`).
    """
    if row.suggested is None or row.suggested_label is None:
        index, name, p = row.target, row.given_label, unit(row.p_t)
    else:
        index, name, p = row.suggested, row.suggested_label, probability(row)
    fields = tool_fields(row)
    storable: JsonObject = {
        name: value
        for name, value in row.attributes.items()
        if name.isidentifier() and not name.startswith("_") and isinstance(value, str | int | float)
    }
    attributes = rename_reserved(storable, (*fields, *OWN_NAMES)) | fields
    label = name if options.class_names is None else index
    if p is None:
        return {"label": label, "attributes": attributes}
    return {"label": label, "confidence": p, "attributes": attributes}


def image_key(row: ExportRow, options: ExportOptions) -> str:
    """Key of the image: its absolute path, or its path in the data folder without the extension; else the id."""
    path = row.attributes.get(options.image_key)
    if not isinstance(path, str) or not path:
        stem, extension = posixpath.splitext(row.id)
        return stem if extension.lower() in IMAGE_EXTENSIONS else row.id
    is_remote = "://" in path and not path.startswith("file://")
    if "://" in path:
        path = unquote(urlsplit(path).path)
    relative = path.removeprefix(options.image_root.rstrip("/") + "/") if options.image_root else path
    if is_absolute(relative) and not is_remote:
        return relative
    return posixpath.splitext(posixpath.normpath(relative.lstrip("/")))[0]


def is_absolute(path: str) -> bool:
    """True for an absolute path of Linux, macOS or Windows."""
    drive, rest = ntpath.splitdrive(path)
    return path.startswith("/") or (drive != "" and rest.startswith(("/", "\\")))
