"""Labels of images by path: the `labels.json` of a FiftyOneImageClassificationDataset.

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

Of several labels an image has a list of `classifications`, and of masks the predicted class of each pixel as `mask`;
FiftyOne has no importer for them in one file, and the documentation has one.

Source: fiftyone/utils/data/importers.py FiftyOneImageClassificationDatasetImporter (`setup`, `__next__`),
fiftyone/core/utils.py `deserialize_numpy_array`.
"""

from __future__ import annotations

import base64
import io
import ntpath
import posixpath
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

import numpy as np

from service.exports.elements import Numbers, check_axes
from service.exports.json_stream import dump, join_items
from service.exports.label_sets import predicted_labels
from service.exports.rows import ExportOptions, ExportRow, known_probability, probability, rename_reserved, tool_fields
from service.schema.json_values import JsonObject
from service.schema.replies.exports import Classification, Classifications, ConfidentLabel, Segmentation
from service.schema.structure import Task

# Names that fiftyone.core.labels.Classification uses itself.
OWN_NAMES = ("id", "label", "tags", "confidence", "logits", "attributes")
# Names that its labels of structured examples use.
STRUCTURED_NAMES = ("classifications", "mask", "mask_path")
IMAGE_EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def write_fiftyone(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSON object with `classes`, if their names are known, and `labels` by image."""
    opening = b"{" if options.class_names is None else b'{"classes":' + dump(options.class_names) + b","
    labels = (dump(image_key(row, options)) + b":" + dump(_LABELS[options.task](row, options)) for row in rows)
    return join_items(opening + b'"labels":{', labels, b"\n}}\n")


def classification(row: ExportRow, options: ExportOptions) -> Classification:
    """The classification of an image; `label` is an index into the classes if their names are known."""
    if row.suggested is None or row.suggested_label is None:
        index, name, p = row.target, row.given_label, known_probability(row.p_t)
    else:
        index, name, p = row.suggested, row.suggested_label, probability(row)
    label = name if options.class_names is None else index
    if label is None:
        raise TypeError("a row of a run with one label an example has a target")
    if p is None:
        return {"label": label, "attributes": _attributes(row)}
    return {"label": label, "confidence": p, "attributes": _attributes(row)}


def classifications(row: ExportRow, options: ExportOptions) -> Classifications:
    """The labels of an image that the model predicts, by name."""
    labels: list[ConfidentLabel] = [{"label": name, "confidence": p} for name, p in predicted_labels(row, options)]
    return {"classifications": labels, "attributes": _attributes(row, STRUCTURED_NAMES)}


def segmentation(row: ExportRow, options: ExportOptions) -> Segmentation:
    """The predicted classes of the pixels of an image, of ignored ones the largest value; None without its elements.

    Raises:
        InvalidRequestError: The example does not have two axes.
    """
    mask = None
    if row.elements is not None and row.elements.all is not None:
        check_axes(row.id, row.elements)
        mask = mask_text(row.elements.all.predictions.reshape(row.elements.shape))
    return {"mask": mask, "attributes": _attributes(row, STRUCTURED_NAMES)}


def mask_text(classes: Numbers) -> str:
    """Encode an array as `fiftyone.core.utils.deserialize_numpy_array(text, ascii=True)` decodes it.

    Args:
        classes: (H, W) integers; stored in the smallest unsigned type, whose largest value is that of -1 (ignored).
    """
    kind = np.min_scalar_type(int(classes.max(initial=0)) + 1)
    with io.BytesIO() as file:
        np.save(file, classes.astype(kind), allow_pickle=False)
        return base64.b64encode(zlib.compress(file.getvalue(), 1)).decode()


def _attributes(row: ExportRow, reserved: Sequence[str] = ()) -> JsonObject:
    """The scores, and the attributes that FiftyOne can store with a label: texts, numbers and booleans whose names are
    Python identifiers (FiftyOne stores them in MongoDB, whose names have neither `.` nor `$`)."""
    fields = tool_fields(row)
    storable: JsonObject = {
        name: value
        for name, value in row.attributes.items()
        if name.isidentifier() and not name.startswith("_") and isinstance(value, str | int | float)
    }
    return rename_reserved(storable, (*fields, *OWN_NAMES, *reserved)) | fields


# There is no label of a text in FiftyOne.
_LABELS: Mapping[Task, Callable[[ExportRow, ExportOptions], Classification | Classifications | Segmentation]] = {
    "classification": classification,
    "multi_label": classifications,
    "masks": segmentation,
}


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
