"""Writes the corrected data set of a run in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from service.errors import InvalidRequestError
from service.exports.corrected.class_table import class_table
from service.exports.corrected.element_table import element_table
from service.exports.corrected.files import FORMATS
from service.exports.corrected.policies import policy_decisions
from service.exports.corrected.table import Layout
from service.exports.options import export_options
from service.queries.view import View
from service.runs.review_history import ReviewHistory
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
    file: BinaryIO, view: View, history: ReviewHistory, format_name: CorrectedFormat, options: CorrectedOptions
) -> None:
    """Write the corrected data set of a run to a file.

    Args:
        file: File to write to.
        view: The run.
        history: The reviews that the caller may see.
        format_name: Format of the file.
        options: Further options.

    Raises:
        InvalidRequestError: The format cannot hold the labels of the run, or they are not known.
    """
    task = view.snapshot.description.task
    written = FORMATS[format_name]
    if task not in written.tasks:
        msg = f"{format_name} has no corrected labels of the task {task}; there are csv, jsonl, parquet and arrow"
        raise fault(InvalidRequestError, msg, "query", "format")
    layout = Layout(options.attributes, written.flat)
    if view.is_structured and options.policy != "reviewed":
        msg = f"policy {options.policy} is for runs of the task classification, not {task}"
        raise fault(InvalidRequestError, msg, "query", "policy")
    if view.is_structured:
        table = element_table(view, history, layout)
    else:
        table = class_table(view, policy_decisions(view, history, options.policy), layout)
    written.write(file, table, export_options(view, None, view.snapshot.epoch(), 0, options.tool_names))
