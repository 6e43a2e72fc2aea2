"""The command `focal-loss score`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.console import command_errors, errors, info
from service.cli.options import (
    DEFAULT_URL,
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
    Separator,
    TargetsColumn,
    Url,
    config_fields,
    read_class_names,
)
from service.formats.name_lists import split_names
from service.schema.structure import Layout

STRUCTURE = "Rows of many elements: labels, tokens, pixels"
OUTPUTS = "loss,contribution,p_t,prediction"
OUTPUTS_OF_STRUCTURE = "loss,contribution,num_valid,label_quality"


def score(
    inputs: Inputs,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help=".parquet, .csv, .jsonl or .arrow file; - is JSONL on standard output."),
    ],
    input_format: InputFormat = None,
    separator: Separator = None,
    encoding: Encoding = None,
    logits: LogitsColumns = None,
    targets: TargetsColumn = None,
    id_column: IdColumn = None,
    class_names: ClassNames = None,
    class_names_file: ClassNamesFile = None,
    on_invalid: InvalidRows = "error",
    config: Config = None,
    alpha: Alpha = None,
    gamma: Gamma = None,
    mode: Mode = None,
    gamma_negative: GammaNegative = None,
    clip: Clip = None,
    reduction: Annotated[str | None, typer.Option(help="mean, sum, weighted_mean or none.")] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            help=f"Scores, separated by commas; default: {OUTPUTS}, for dense and ragged {OUTPUTS_OF_STRUCTURE}.",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="rows, dense (masks) or ragged (tokens).", rich_help_panel=STRUCTURE)
    ] = "rows",
    divisor: Annotated[
        str | None,
        typer.Option(
            help="Divisor of mean: elements, examples, positives or a number; default: elements, of rows examples.",
            rich_help_panel=STRUCTURE,
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        str,
        typer.Option(
            help="How the loss of a row is made of those of its elements: mean, sum, max or top_share=0.1.",
            rich_help_panel=STRUCTURE,
        ),
    ] = "mean",
    elements: Annotated[
        str | None,
        typer.Option(
            help="Scores of each element, separated by commas.", rich_help_panel=STRUCTURE, show_default=False
        ),
    ] = None,
    top_regions: Annotated[
        int | None,
        typer.Option(
            min=0, help="Largest number of regions of each row.", rich_help_panel=STRUCTURE, show_default=False
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=0, help="Number of hardest examples in the summary.")] = 10,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of a request; at most 64 MiB of logits.")] = 50_000,
    url: Url = DEFAULT_URL,
    local: Annotated[bool, typer.Option("--local", help="Compute in this process, without a service.")] = False,
    device: Annotated[str, typer.Option(help="For --local: auto, cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Discard the results of an interrupted run.")] = False,
) -> None:
    """Score the examples in files. To continue an interrupted run, run the same command again.

    Exit status: 0 success, 1 the service or the disk failed, 2 usage error, 3 invalid data.
    """
    from service.cli.progress import shown_progress
    from service.cli.score.columns import ColumnNames
    from service.cli.score.options import ScoringOptions
    from service.cli.score.run import score_files
    from service.cli.score.scorers import open_scorer
    from service.cli.score.sources import count_rows, find_sources
    from service.cli.score.structure import structure_of

    with command_errors("Interrupted. Run the same command again to continue."):
        sources = find_sources(inputs, input_format, separator, encoding)
        options = ScoringOptions.parse(
            config_fields(
                config,
                alpha=alpha,
                gamma=gamma,
                mode=mode,
                gamma_negative=gamma_negative,
                clip=clip,
                reduction=reduction,
            ),
            outputs=split_names(outputs or (OUTPUTS if layout == "rows" else OUTPUTS_OF_STRUCTURE)) or [],
            top_k=top_k,
            on_invalid=on_invalid,
            columns=ColumnNames.parse(logits, targets, id_column),
            batch_rows=batch_rows,
            class_names=read_class_names(class_names, class_names_file),
            structure=structure_of(layout, divisor, within, split_names(elements), top_regions),
        )
        with (
            open_scorer(options, url, device if local else None) as scorer,
            shown_progress(errors, count_rows(sources), "scoring") as progress,
        ):
            summary = score_files(sources, output, options, scorer, restart=restart, progress=progress)
        summary.show(errors)
        if output != "-":
            info(f"Wrote {output}.")
