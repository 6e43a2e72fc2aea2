"""Writes the corrected data set of a run in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from service.errors import InvalidRequestError
from service.exports.corrected.class_table import class_table
from service.exports.corrected.decisions import reviewed_decisions
from service.exports.corrected.files import FORMATS
from service.exports.corrected.table import Layout
from service.exports.options import export_options
from service.queries.view import View
from service.runs.store import RunStore
from service.schema.faults import fault
from service.schema.replies.corrected import CorrectedFormat, CorrectedPolicy


@dataclass(frozen=True)
class CorrectedOptions:
    """Options of a corrected data set.

    Args:
        policy: The source of the labels to use.
        attributes: False to leave out the attributes.
        tool_names: Names of a labelling tool's project; default: those of `ExportOptions`.
    """

    policy: CorrectedPolicy = "reviewed"
    attributes: bool = True
    tool_names: Mapping[str, str] = field(default_factory=dict)


def write_corrected(
    file: BinaryIO, store: RunStore, view: View, format_name: CorrectedFormat, options: CorrectedOptions
) -> None:
    """Write the corrected data set of a run to a file.

    Raises:
        InvalidRequestError: The format cannot hold the labels of the run.
    """
    task = view.snapshot.description.task
    if view.is_structured:
        msg = f"the corrected data set of the task {task} is not available"
        raise fault(InvalidRequestError, msg, "query", "format")
    written = FORMATS[format_name]
    epoch = view.snapshot.epoch()
    verdicts = store.reviews(view.snapshot).verdicts_of(epoch)
    table = class_table(view, reviewed_decisions(verdicts), Layout(options.attributes, written.flat))
    written.write(file, table, export_options(view, None, epoch, 0, options.tool_names))
