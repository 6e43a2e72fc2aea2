"""The output of a scoring run, from its parts."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from service.cli.errors import CommandError, UsageError
from service.cli.score.options import ScoringOptions
from service.cli.score.outputs import table_writer
from service.cli.score.store import PartStore
from service.cli.score.summary import Summary
from service.codecs.arrow.columns import INTEGERS, REGION
from service.codecs.element_outputs import PREFIX
from service.formats.arrow_types import plain
from service.schema.request import ELEMENT_OUTPUTS, OUTPUTS, REGIONS

# Columns of the output for files without rows.
NO_ROWS = pa.schema(
    {"row": pa.int64(), "target": pa.int64()}
    | dict.fromkeys(OUTPUTS, pa.float64())
    | dict.fromkeys(INTEGERS, pa.int64())
    | {PREFIX + name: pa.list_(pa.int64() if name in INTEGERS else pa.float64()) for name in ELEMENT_OUTPUTS}
    | {REGIONS: pa.list_(REGION)}
)


def write_output(store: PartStore, count: int, output: str, options: ScoringOptions, summary: Summary) -> None:
    """Write the scored parts to the output, in their order.

    Args:
        store: Store of the parts.
        count: Number of the parts.
        output: A file, or `-`.
        options: Options of the run.
        summary: Totals of all parts, for the contributions.

    Raises:
        UsageError: The files do not fit together.
        CommandError: The disk failed.
    """
    try:
        schema = _common_schema(store.read_schema(number) for number in range(count)) if count else NO_ROWS
        schema = _output_table(schema.empty_table(), options, summary).schema
        with table_writer(output, schema, store.folder) as write:
            for number in range(count):
                write(_output_table(store.read(number), options, summary).cast(schema))
    except BrokenPipeError:
        raise
    except (OSError, pa.ArrowException) as err:
        raise CommandError(f"{output}: {err}; the scored parts are in {store.folder}") from err


def _common_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """The schema of all parts: ids of several types become texts, integers and floats become floats.

    Raises:
        UsageError: Only some of the files have ids, or labels of several shapes.
    """
    different = list(dict.fromkeys(schemas))
    if len({tuple(schema.names) for schema in different}) > 1:
        raise UsageError("only some of the files have ids: name their column with --id, or score them apart")
    id_kinds = {schema.field("id").type for schema in different if "id" in schema.names}
    if len(id_kinds) > 1:
        different = [schema.set(0, pa.field("id", pa.string())) for schema in different]
    try:
        return pa.unify_schemas(different, promote_options="permissive")
    except pa.ArrowException as err:
        raise UsageError(f"the files differ in their labels, score them apart: {err}") from err


def _output_table(part: pa.Table, options: ScoringOptions, summary: Summary) -> pa.Table:
    """Select the columns of the output in the order of the options, and divide the contributions."""
    structure = options.structure
    outputs = dict.fromkeys(["loss", *(name for name in options.outputs if name != REGIONS)])
    elements = [PREFIX + name for name in dict.fromkeys(structure.get("elements", ()))]
    regions = [REGIONS] if REGIONS in options.outputs or "top_regions" in structure else []
    names = [name for name in ("id", "row", "file", "target") if name in part.column_names]
    table = part.select([*names, *outputs, *elements, *regions]).replace_schema_metadata(None)
    divisor = summary.denominator or 1.0
    for name in ("contribution", PREFIX + "contribution"):
        position = table.schema.get_field_index(name)
        if position >= 0:
            divided = _divided(plain(table.column(position)), divisor)
            table = table.set_column(position, name, divided)
    return table


def _divided(column: pa.Array, divisor: float) -> pa.Array:
    """The numbers in a column, or in its nested lists, divided."""
    if pa.types.is_list(column.type):
        return pa.ListArray.from_arrays(column.offsets, _divided(column.values, divisor))
    return pc.divide(column, pa.scalar(divisor, pa.float64()))
