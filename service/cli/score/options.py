"""Options of a scoring run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.cli.errors import UsageError
from service.cli.score.columns import ColumnNames
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import OnInvalid, RequestOptions


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
    """

    config: LossConfig
    outputs: tuple[str, ...]
    top_k: int
    on_invalid: OnInvalid
    columns: ColumnNames
    batch_rows: int
    class_names: tuple[str, ...] | None = None

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
    ) -> ScoringOptions:
        """Check the configuration and the names of the outputs.

        Raises:
            UsageError: One of them is invalid.
        """
        try:
            RequestOptions.parse({"outputs": list(outputs)})
            names = None if class_names is None else tuple(class_names)
            return cls(LossConfig.parse(config), tuple(outputs), top_k, on_invalid, columns, batch_rows, names)
        except LossServiceError as err:
            raise UsageError(err.detail) from err

    @property
    def scorer_outputs(self) -> tuple[str, ...]:
        """The outputs that a scorer computes; contributions are computed at the end from the losses."""
        further = ["num_valid"] if self.sums_labels else []
        return tuple(dict.fromkeys(["loss", *further, *(name for name in self.outputs if name != "contribution")]))

    @property
    def sums_labels(self) -> bool:
        """True if a contribution is the sum of the losses of an example's labels, and its loss their mean."""
        return self.config.mode == "sigmoid" and self.config.reduction in ("sum", "none")
