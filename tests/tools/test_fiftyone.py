"""FiftyOne imports the export as the documentation says, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.client import LossClient, RunClient
from tests.live.server_process import ServerProcess
from tests.tools.conftest import CLASS_NAMES, IDS, LABELS, LOGITS, PREDICTED

ROOT = Path(__file__).parent.parent.parent
PYTHON = Path(os.environ.get("FOCAL_LOSS_TEST_FIFTYONE", ROOT / ".venv-fiftyone" / "bin" / "python"))
ROWS = 12

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON} is not there: make tools installs FiftyOne")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """One image per row, half of them in a folder of their own."""
    paths = [tmp_path / "images" / ("more" if number % 2 else "") / f"img{number:02}.png" for number in range(ROWS)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return paths


@pytest.fixture
def photos(server: ServerProcess, images: list[Path]) -> Iterator[RunClient]:
    with LossClient(server.url) as client:
        run = client.put_run("photos", class_names=CLASS_NAMES)
        attributes = {"image": [str(path) for path in images]}
        run.push(0, "all", LOGITS[:ROWS], LABELS[:ROWS], IDS[:ROWS], attributes=attributes)
        yield run
        run.delete()


def imported(labels: Path, *data: str) -> Any:
    command = [PYTHON, Path(__file__).parent / "fiftyone_import.py", labels, *data]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("with_root", [False, True])
def test_every_image_is_found_with_its_label(
    photos: RunClient, images: list[Path], tmp_path: Path, with_root: bool
) -> None:
    labels, folder = tmp_path / "labels.json", str(tmp_path / "images")
    photos.export(labels, format="fiftyone", **({"image_root": f"{folder}/"} if with_root else {}))
    shown = imported(labels, *([folder] if with_root else []))
    assert shown["files"] == [path.name for path in sorted(images, key=lambda path: path.name)]
    assert shown["labels"] == {IDS[number]: CLASS_NAMES[PREDICTED[number]] for number in range(ROWS)}
    wrong = {IDS[number] for number in range(ROWS) if PREDICTED[number] != LABELS[number]}
    assert shown["to_review"] == [row["id"] for row in photos.all_examples() if row["id"] in wrong]
    assert shown["has_confidence"]
    assert {"focal.focal_loss", "focal.rank", "focal.given_label"} <= set(shown["fields"])


def test_masks_and_several_labels_are_imported(server: ServerProcess, tmp_path: Path) -> None:
    folder, labels = tmp_path / "images", tmp_path / "labels.json"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (2, 2)).save(folder / f"{number}.png")
    given = {"ids": ["a", "b"], "targets": [[[0, 0], [0, 0]]] * 2, "logits": [[[[1, 0], [0, 1]], [[0, 2], [2, 0]]]] * 2}
    with LossClient(server.url) as client:
        masks = client.put_run("masks", task="masks", class_names=["road", "car"])
        masks.push(0, "all", given, attributes={"image": ["0.png", "1.png"]})
        masks.export(labels, format="fiftyone")
        shown = imported(labels, str(folder), "structured")
        assert shown["masks"] == {"a": [[0, 1], [1, 0]], "b": [[0, 1], [1, 0]]}
        assert {"focal.rank", "focal.focal_loss"} <= set(shown["fields"])
        photos = client.put_run("photos", task="multi_label", class_names=["sea", "sky"], config={"mode": "sigmoid"})
        rows = {"ids": ["a", "b"], "targets": [[0, 0], [0, 0]], "logits": [[2.0, 1.0], [-1.0, 3.0]]}
        photos.push(0, "all", rows, attributes={"image": ["0.png", "1.png"]})
        photos.export(labels, format="fiftyone")
        shown = imported(labels, str(folder), "structured")
        assert shown["labels"] == {"b": ["sky"], "a": ["sea", "sky"]}
        assert shown["ids"] == ["b", "a"]
        masks.delete()
        photos.delete()
