"""Options of an export that follow from a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.exports.rows import ExportOptions
from service.queries.view import View

# Defaults for masks, whose data are images.
IMAGES = {"to_name": "image", "object_tag": "Image"}


def export_options(
    view: View, queue: str | None, epoch: int, total: int, tool_names: Mapping[str, Any] | None = None
) -> ExportOptions:
    """The options of an export of a run.

    Args:
        view: The run.
        queue: Name of the queue, None for a whole epoch.
        epoch: Epoch of the scores.
        total: Number of rows.
        tool_names: Options that name parts of a labelling tool's project; default: those of `ExportOptions`.
    """
    description = view.snapshot.description
    names = (IMAGES if description.task == "masks" else {}) | dict(tool_names or {})
    return ExportOptions(
        run=view.snapshot.name,
        queue=queue,
        config_id=description.config.config_id,
        epoch=epoch,
        total=total,
        task=description.task,
        class_names=description.class_names,
        **names,
    )


def class_labels(view: View) -> tuple[str, ...]:
    """The names of the run's classes (of several labels, those of the labels), or numbers if they have no names."""
    names = view.snapshot.description.class_names
    return names or tuple(str(label) for label in range(view.snapshot.num_classes or 0))
