"""Options of a scoring run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from service.cli.errors import UsageError
from service.cli.score.columns import ColumnNames
from service.client.calls import Structure
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import OnInvalid, RequestOptions
from service.schema.structure import DivisorName, Layout, divisor_of


@dataclass(frozen=True)
class ScoringOptions:
    """Options of a scoring run.

    Args:
        config: Configuration of the loss.
        outputs: Names of scores; the output has a column `loss` in any case.
        top_k: Number of hardest examples in the summary.
        on_invalid: `error` stops at an invalid row, `exclude` leaves its scores empty.
        columns: Columns of the inputs.
        batch_rows: Rows of a request and of a part.
        class_names: Names of the classes, which labels may be; None if they have none.
        structure: Options for rows of many elements.
    """

    config: LossConfig
    outputs: tuple[str, ...]
    top_k: int
    on_invalid: OnInvalid
    columns: ColumnNames
    batch_rows: int
    class_names: tuple[str, ...] | None = None
    structure: Structure = field(default_factory=Structure)

    @classmethod
    def parse(
        cls,
        config: Mapping[str, object],
        *,
        outputs: Sequence[str],
        top_k: int,
        on_invalid: OnInvalid,
        columns: ColumnNames,
        batch_rows: int,
        class_names: Sequence[str] | None = None,
        structure: Mapping[str, object] | None = None,
    ) -> ScoringOptions:
        """Check the configuration, the names of the outputs and the options of `Structure`.

        Raises:
            UsageError: One of them is invalid.
        """
        try:
            checked = cast("Structure", dict(structure or {}))
            RequestOptions.parse({"outputs": list(outputs), **checked})
            names = None if class_names is None else tuple(class_names)
            loss = LossConfig.parse(config)
            return cls(loss, tuple(outputs), top_k, on_invalid, columns, batch_rows, names, checked)
        except LossServiceError as err:
            raise UsageError(err.detail) from err

    @property
    def scorer_outputs(self) -> tuple[str, ...]:
        """The outputs that a scorer computes: also those that the summary needs."""
        return tuple(dict.fromkeys(["loss", "contribution", "num_valid", *self.outputs]))

    @property
    def layout(self) -> Layout:
        return self.structure.get("layout", "rows")

    @property
    def divisor(self) -> DivisorName | float:
        """The number that `mean` divides by."""
        return divisor_of(self.layout, self.structure.get("divisor"))
