"""Options that several commands share, and their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer

from service.cli.console import fail
from service.formats.name_lists import split_quoted_names
from service.schema.request import OnInvalid
from service.schema.structure import Task

DEFAULT_URL = "http://127.0.0.1:8000"
CONFIGURATION, FILES = "Configuration of the loss", "Input files"
TOP_SHARE = "top_share"


def check_url(url: str) -> str:
    """Return the address of a service; a usage error if it is not an HTTP address."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise typer.BadParameter(f"{url!r} is not an address such as {DEFAULT_URL}")
    return url


Url = Annotated[
    str, typer.Option("--url", callback=check_url, help="Address of the service. FOCAL_LOSS_API_KEY is its key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.", show_default=False)]
Epoch = Annotated[int | None, typer.Option("--epoch", min=0, help="Epoch; default: the last one.", show_default=False)]
WhatIfAlpha = Annotated[
    str | None,
    typer.Option("--alpha", help="What-if class weights: a number, one per class separated by commas, or none."),
]
WhatIfGamma = Annotated[float | None, typer.Option("--gamma", min=0, help="What-if gamma.")]

Config = Annotated[
    str | None, typer.Option(help="Configuration as JSON, or a JSON file.", rich_help_panel=CONFIGURATION)
]
Alpha = Annotated[
    str | None,
    typer.Option(help="Class weights: a number, or one per class separated by commas.", rich_help_panel=CONFIGURATION),
]
Gamma = Annotated[float | None, typer.Option(help="Focusing parameter.", rich_help_panel=CONFIGURATION)]
Mode = Annotated[str | None, typer.Option(help="softmax or sigmoid.", rich_help_panel=CONFIGURATION)]
GammaNegative = Annotated[
    float | None,
    typer.Option(help="Sigmoid: focusing parameter of negative labels; default: gamma.", rich_help_panel=CONFIGURATION),
]
Clip = Annotated[
    float | None,
    typer.Option(help="Sigmoid: number that lowers the probability of negative labels.", rich_help_panel=CONFIGURATION),
]

TaskName = Annotated[
    Task | None,
    typer.Option(
        "--task",
        help="Kind of the labels: classification, multi_label, tokens or masks; default: classification.",
        show_default=False,
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        help="How the loss of an example is made of those of its labels, tokens or pixels: mean, sum, max or "
        "top_share=0.1; default: mean.",
        show_default=False,
    ),
]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--class-names",
        help='Names of the classes, of the task multi_label of the labels, separated by commas; "a, b" in quotes is '
        "one name. Can be repeated.",
        show_default=False,
    ),
]
ClassNamesFile = Annotated[
    Path | None,
    typer.Option(help="File with the name of a class on each line, or a JSON list of names.", show_default=False),
]
Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Parquet, Arrow, CSV, JSONL, .npz or safetensors files, also as .gz, .bz2, .xz or .zst, folders or globs; "
        "- is standard input."
    ),
]
InputFormat = Annotated[
    str | None,
    typer.Option("--format", help="Format of all inputs; default: by the file extension.", rich_help_panel=FILES),
]
Separator = Annotated[
    str | None,
    typer.Option(help="CSV: comma, semicolon, tab or pipe; default: by the header line.", rich_help_panel=FILES),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="CSV: utf-8, utf-16, iso-8859-1 or windows-1252; default: UTF-8.", rich_help_panel=FILES),
]
LogitsColumns = Annotated[
    str | None,
    typer.Option("--logits", help="A list column, or a column per class separated by commas.", rich_help_panel=FILES),
]
TargetsColumn = Annotated[str | None, typer.Option("--targets", help="Column of the labels.", rich_help_panel=FILES)]
IdColumn = Annotated[str | None, typer.Option("--id", help="Column of the ids.", rich_help_panel=FILES)]
InvalidRows = Annotated[
    OnInvalid, typer.Option("--on-invalid", help="Stop at an invalid row, or exclude it.", rich_help_panel=FILES)
]


def read_class_names(names: list[str] | None, file: Path | None) -> list[str] | None:
    """The names of `--class-names` or `--class-names-file`; None without both. Ends the command if the file is invalid.

    Args:
        names: Values of `--class-names`.
        file: A text file in UTF-8 with a name on each line, taken as it is, or a `.json` file with a list of names.
    """
    if file is None:
        return split_quoted_names(names)
    if names:
        fail("--class-names and --class-names-file are alternatives")
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, ValueError) as err:
        fail(f"--class-names-file {file}: {err}")
    if file.suffix.lower() != ".json":
        return [line for line in text.split("\n") if line]
    try:
        listed = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        fail(f"--class-names-file {file}: not JSON: {err}")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        fail(f"--class-names-file {file}: not a JSON list of names")
    return listed


def parse_numbers(text: str | None, option: str = "--alpha") -> float | list[float] | None:
    """Parse a number, or a list of numbers separated by commas; ends the command if the text is neither."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} {text}: expected a number, or numbers separated by commas")
    return numbers if len(numbers) > 1 else numbers[0]


def parse_alpha(text: str | None) -> float | list[float] | tuple[()] | None:
    """Parse a what-if alpha; the empty tuple means no class weights."""
    return () if text == "none" else parse_numbers(text)


def parse_within(text: str) -> str | dict[str, float]:
    """Parse `--within`: a name, or `top_share=` and a number; ends the command if that is no number."""
    name, _, share = text.partition("=")
    if name != TOP_SHARE:
        return text
    try:
        return {TOP_SHARE: float(share)}
    except ValueError:
        fail(f"--within {text}: expected {TOP_SHARE}= and a number")


def config_fields(config: str | None, *, alpha: str | None, **members: float | str | None) -> dict[str, object]:
    """Merge the options of a configuration: `--config`, and the options of single members, which override it.

    Args:
        config: Value of `--config`.
        alpha: Value of `--alpha`.
        members: Values of other members by their names; None: not given.

    Ends the command if `--config` is neither a JSON object nor a file with one.
    """
    given: dict[str, object] = {"alpha": parse_numbers(alpha), **members}
    return _read_config(config) | {name: value for name, value in given.items() if value is not None}


def _read_config(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text()
        except (OSError, ValueError) as err:
            fail(f"--config: expected JSON or a file: {err}")
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        fail(f"--config: invalid JSON: {err}")
    if not isinstance(fields, dict):
        fail("--config: expected a JSON object")
    return fields
