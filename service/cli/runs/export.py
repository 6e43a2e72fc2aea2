"""The command `focal-loss export`: a file for a labelling tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.console import QUERY_TIMEOUT_S, call_service, fail, info
from service.cli.errors import SERVICE_FAILED
from service.cli.options import DEFAULT_URL, Epoch, RunName, Url, WhatIfAlpha, WhatIfGamma, parse_alpha
from service.schema.replies.exports import MaskTag

# Longer extensions first.
EXTENSIONS = {
    ".label-studio.json": "label-studio",
    ".argilla.jsonl": "argilla",
    ".labels.json": "fiftyone",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def export(
    run: RunName,
    path: Annotated[Path, typer.Option("--output", "-o", help="Output file.")],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="label-studio, argilla, fiftyone, csv, jsonl or parquet; default: by the file extension.",
        ),
    ] = None,
    queue: Annotated[
        str | None, typer.Option(help="Name of a queue; default: all examples or units, largest loss first.")
    ] = None,
    epoch: Epoch = None,
    alpha: WhatIfAlpha = None,
    gamma: WhatIfGamma = None,
    from_name: Annotated[
        str | None, typer.Option(help="Label Studio: name of the control. Argilla: name of the question.")
    ] = None,
    to_name: Annotated[
        str | None, typer.Option(help="Label Studio: name of the object. Argilla: name of the field.")
    ] = None,
    data_key: Annotated[str | None, typer.Option(help="Attribute to show to the labeller.")] = None,
    object_tag: Annotated[str | None, typer.Option(help="Label Studio: Text, Image, Audio or HyperText.")] = None,
    mask_tag: Annotated[
        MaskTag | None, typer.Option(help="Label Studio: BrushLabels (default) or PolygonLabels, for regions of masks.")
    ] = None,
    units: Annotated[
        bool | None,
        typer.Option(help="Rows of an epoch of labels, tokens or masks: units (default of tables) or examples."),
    ] = None,
    image_key: Annotated[str | None, typer.Option(help="FiftyOne: attribute with the path of the image.")] = None,
    image_root: Annotated[str | None, typer.Option(help="FiftyOne: folder of the images.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Export a queue or a whole epoch to a file for a labelling tool."""
    options = {
        "epoch": epoch,
        "alpha": parse_alpha(alpha),
        "gamma": gamma,
        "from_name": from_name,
        "to_name": to_name,
        "data_key": data_key,
        "object_tag": object_tag,
        "mask_tag": mask_tag,
        "units": units,
        "image_key": image_key,
        "image_root": image_root,
    }
    format_name = format_name or format_of(path)
    if not path.parent.is_dir():
        fail(f"{path.parent}: no such folder")
    try:
        call_service(
            url,
            lambda client: client.run(run).export(path, format=format_name, queue=queue, **options),
            QUERY_TIMEOUT_S,
        )
    except OSError as err:
        fail(f"{path}: {err}", SERVICE_FAILED)
    info(f"Wrote {path} ({format_name}).")


def format_of(path: Path) -> str:
    """The export format of a file by its extension; ends the command if the extension is unknown."""
    for extension, name in EXTENSIONS.items():
        if path.name.lower().endswith(extension):
            return name
    fail(f"{path}: unknown extension: use --format, or one of {', '.join(EXTENSIONS)}")
