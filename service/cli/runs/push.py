"""The command `focal-loss push`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.console import command_errors, errors, fail, info
from service.cli.options import (
    DEFAULT_URL,
    FILES,
    Alpha,
    ClassNames,
    ClassNamesFile,
    Clip,
    Config,
    Encoding,
    Gamma,
    GammaNegative,
    IdColumn,
    InputFormat,
    Inputs,
    InvalidRows,
    LogitsColumns,
    Mode,
    RunName,
    Separator,
    TargetsColumn,
    TaskName,
    Url,
    Within,
    config_fields,
    parse_within,
    read_class_names,
)
from service.cli.runs.new_run import NewRun
from service.formats.name_lists import split_names
from service.schema.structure import LAYOUT_OF, divisor_of


def push(
    run: RunName,
    inputs: Inputs,
    epoch: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Epoch of the rows.", show_default=False)],
    input_format: InputFormat = None,
    separator: Separator = None,
    encoding: Encoding = None,
    logits: LogitsColumns = None,
    targets: TargetsColumn = None,
    id_column: IdColumn = None,
    number_rows: Annotated[
        bool,
        typer.Option(
            "--number-rows", help="Use the number of each row as its id, over all files.", rich_help_panel=FILES
        ),
    ] = False,
    attributes: Annotated[
        str | None,
        typer.Option(help="Further columns to store, separated by commas, or all.", rich_help_panel=FILES),
    ] = None,
    on_invalid: InvalidRows = "error",
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of classes of files with scores in place of logits, for a run that does not know it yet.",
            rich_help_panel=FILES,
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace batches of the same names that have other content; other batches stay."
        ),
    ] = False,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of a batch; at most 64 MiB of logits.")] = 20_000,
    prefix: Annotated[str | None, typer.Option(help="Prefix of the batch names; default: from the path.")] = None,
    create: Annotated[
        bool,
        typer.Option(
            "--create", help="Create the run if it does not exist; set its loss with --config or the options below."
        ),
    ] = False,
    class_names: ClassNames = None,
    class_names_file: ClassNamesFile = None,
    config: Config = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    mode: Mode = None,
    gamma_negative: GammaNegative = None,
    clip: Clip = None,
    task: TaskName = None,
    within: Within = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Push logits and targets from files into a run. After an interruption, run the same command again.

    Each row is stored once, however often the command runs.

    Exit status: 0 success, 1 the service failed, 2 usage error, 3 invalid data.
    """
    from service.cli.progress import shown_progress
    from service.cli.runs.upload import Target, describe_run, named_chunks, push_chunks
    from service.cli.score.chunks import Reading
    from service.cli.score.columns import ColumnNames
    from service.cli.score.sources import count_rows, find_sources
    from service.client import LossClient
    from service.formats.labels import ClassNames as Names
    from service.schema.result import Totals

    new_run = NewRun(
        config_fields(config, alpha=alpha, gamma=gamma, mode=mode, gamma_negative=gamma_negative, clip=clip),
        read_class_names(class_names, class_names_file),
        task,
        within if within is None else parse_within(within),
    )
    if not create and (new_run.class_names or config or new_run.config or task or within):
        fail("--class-names, --config, --task, --within and the options of the loss describe a new run: add --create")
    names = None if attributes == "all" else tuple(split_names(attributes) or ())
    columns = ColumnNames.parse(logits, targets, id_column, names)
    with command_errors("Interrupted. Run the same command again to send the missing batches."):
        sources = find_sources(inputs, input_format, separator, encoding)
        description = describe_run(url, run, new_run if create else None)
        loss, run_task = description["config"], description["task"]
        # The names of a run of several labels are those of its labels.
        known_names = None if run_task == "multi_label" else description["class_names"]
        reading = Reading(
            columns,
            batch_rows,
            whole_targets=loss["mode"] == "softmax",
            keep_missing=on_invalid == "exclude",
            class_names=None if known_names is None else Names(known_names),
            layout=LAYOUT_OF[run_task],
        )
        chunks = named_chunks(sources, reading, prefix, number_rows=number_rows)
        totals = Totals(loss["reduction"], 0, divisor=divisor_of(reading.layout, None))
        with LossClient(url) as client, shown_progress(errors, count_rows(sources), "pushing") as progress:
            target = Target(client.run(run), epoch, description, num_classes)
            for reply in push_chunks(target, chunks, on_invalid, replace=replace):
                totals.add_result(reply)
                progress(reply.num_examples)
    text = "none" if totals.loss is None else f"{totals.loss:.6f}"
    info(
        f"Epoch {epoch} of run {run}: loss {text} ({totals.reduction}), {totals.num_examples} rows in "
        f"{totals.num_batches} batches, {totals.num_ignored} ignored, {totals.num_excluded} excluded."
    )
