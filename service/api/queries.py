"""Query parameters of the routes, one model for each route; FastAPI documents and validates them.

The models belong to the API and not to the schema, because only URLs need them: the client and the command line have
typed arguments of their own. Names of epochs and weights are resolved by `View.epoch` and `View.weighting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from service.api.http.query_types import (
    MAX_NAMES,
    AttributeFilters,
    Digits,
    Epoch,
    FiniteNumber,
    Flag,
    Integers,
    Names,
    QueryModel,
    Weights,
    integers,
    keys_pattern,
    list_pattern,
    optional_pattern,
    weights,
)
from service.diagnostics.annotators.consensus_page import COLUMNS as CONSENSUS_COLUMNS
from service.diagnostics.annotators.consensus_page import SORT as CONSENSUS_SORT
from service.diagnostics.dynamics import COLUMNS, MAX_BINS
from service.diagnostics.summary import FIELDS
from service.errors import InvalidRequestError
from service.exports.corrected.data_set import CorrectedOptions
from service.formats.name_lists import split_names
from service.mining.leases import MAX_LEASED_ROWS
from service.mining.listing import CLASSES, QueueFilter, VerdictFilter, parse_order
from service.mining.listing import SORTABLE as QUEUE_SORTABLE
from service.queries.filters import Filter
from service.queries.order import SORTABLE
from service.queries.view import SCORE_NAMES
from service.runs.names import NAME
from service.runs.run_classes import RunClasses
from service.schema.faults import fault
from service.schema.people import MAX_REVIEWER_NAME
from service.schema.replies.corrected import CorrectedFormat, CorrectedPolicy
from service.schema.replies.dynamics import Region
from service.schema.replies.exports import ExportFormatName, MaskTag

MAX_LIMIT = 100_000
BY_NAME = "by number or name; repeated: one of these"
T = TypeVar("T")

ClassParameter = Annotated[list[str], Field(max_length=MAX_NAMES)]
Limit = Annotated[int, Digits(1, MAX_LIMIT)]
Minimum = Annotated[FiniteNumber | None, Field(description="Smallest value of the score")]
Maximum = Annotated[FiniteNumber | None, Field(description="Largest value of the score")]


class WhatIfQuery(QueryModel):
    """Another alpha or gamma than the run's."""

    alpha: Weights | None = Field(None, description="What if: weights of the classes with commas, or `none` for 1")
    gamma: float | None = Field(None, description="What if: another gamma", json_schema_extra={"minimum": 0})

    @property
    def weights(self) -> tuple[float, ...] | None:
        """`alpha` as numbers, `()` for `none`."""
        return weights(self.alpha)


class EpochQuery(WhatIfQuery):
    """An epoch, and another alpha or gamma than the run's."""

    epoch: Epoch = Field(None, description="`last` (default), or a number")


class ExamplesQuery(EpochQuery, AttributeFilters):
    """Filters, order and page of the examples of an epoch."""

    sort: str = Field(
        "-loss",
        description="Scores, target, prediction, id, batch or row, with commas; a minus for descending. Structured "
        "examples have no target and prediction, but label_quality, max_loss, loss_sum and num_valid, num_wrong, "
        "num_units",
        json_schema_extra={"pattern": keys_pattern(SORTABLE)},
    )
    limit: Limit = Field(100, description="Maximum number of rows")
    cursor: str | None = Field(None, description="`next_cursor` of the previous page")
    target: ClassParameter | None = Field(None, description=f"Class of the label, {BY_NAME}")
    prediction: ClassParameter | None = Field(None, description=f"Predicted class, {BY_NAME}")
    correct: Flag | None = Field(None, description="True for examples whose prediction is their label")
    min_loss: Minimum = None
    max_loss: Maximum = None
    min_cross_entropy: Minimum = None
    max_cross_entropy: Maximum = None
    min_p_t: Minimum = None
    max_p_t: Maximum = None
    min_log_odds: Minimum = None
    max_log_odds: Maximum = None
    min_logit_margin: Minimum = None
    max_logit_margin: Maximum = None
    min_normalized_margin: Minimum = None
    max_normalized_margin: Maximum = None
    min_entropy: Minimum = None
    max_entropy: Maximum = None
    min_el2n: Minimum = None
    max_el2n: Maximum = None

    def filter(self, classes: RunClasses) -> Filter:
        """The conditions on the examples.

        Raises:
            InvalidRequestError: The run has no class of a name.
        """
        return Filter(
            classes=_class_numbers(self, ("target", "prediction"), classes),
            at_least=_present({name: getattr(self, f"min_{name}") for name in SCORE_NAMES}),
            at_most=_present({name: getattr(self, f"max_{name}") for name in SCORE_NAMES}),
            correct=self.correct,
            attributes=self.attributes,
        )


class ExampleQuery(EpochQuery):
    """An epoch, and the parts of an example."""

    elements: Flag | None = Field(None, description="False to leave out the elements of an example with many")


class DiagnosticsQuery(EpochQuery):
    """Members of the diagnostics of an epoch."""

    fields: Names | None = Field(
        None,
        description="Members to compute, with commas; default: all",
        json_schema_extra={"pattern": optional_pattern(list_pattern(f"({'|'.join(FIELDS)})"))},
    )

    @property
    def field_names(self) -> list[str] | None:
        """`fields` as a list."""
        return split_names(self.fields)


class DynamicsQuery(WhatIfQuery):
    """Filter, order and page of the training dynamics."""

    first: Annotated[int, Digits(1)] | None = Field(None, description="Only this many of the first epochs")
    sort: str = Field(
        "area_under_margin",
        description=f"{', '.join(COLUMNS)}, with commas; a minus for descending",
        json_schema_extra={"pattern": keys_pattern(COLUMNS)},
    )
    region: Region | None = Field(None, description="Only the examples of a region of the data map")
    limit: Annotated[int, Digits(0, MAX_LIMIT)] = Field(100, description="Maximum number of rows")
    offset: Annotated[int, Digits()] = Field(0, description="Number of rows before the page")
    bins: Annotated[int, Digits(1, MAX_BINS)] | None = Field(
        None, description="Adds the data map as a grid of bins by bins cells"
    )


class ConsensusQuery(QueryModel):
    """Annotators, filters, order and page of a consensus."""

    epoch: Epoch = Field(None, description="`last` (default), or a number")
    reviewers: Flag = Field(False, description="True to count the reviewers of the run as annotators too")
    annotated: Flag | None = Field(None, description="True for examples with annotations, false for those without")
    differing: Flag | None = Field(
        None, description="True for examples whose consensus is not their given label, false for those whose it is"
    )
    sort: str = Field(
        CONSENSUS_SORT,
        description=f"{', '.join(CONSENSUS_COLUMNS)}, with commas; a minus for descending; examples without a value "
        "come last",
        json_schema_extra={"pattern": keys_pattern(CONSENSUS_COLUMNS)},
    )
    limit: Annotated[int, Digits(0, MAX_LIMIT)] = Field(100, description="Maximum number of rows")
    offset: Annotated[int, Digits()] = Field(0, description="Number of rows before the page")


class GainQuery(EpochQuery):
    """Epochs of two runs."""

    other_epoch: Epoch = Field(None, description="Epoch of the other run: `last` (default), or a number")


class CompareQuery(GainQuery):
    """Epochs and number of hardest examples of a comparison of two runs."""

    top: Annotated[int, Digits(1)] | None = Field(
        None, description="Number of examples that count as the hardest; default: 1 %, at least 10"
    )


class NewQueueQuery(WhatIfQuery):
    """Options of the creation of a queue, which are not stored with it."""

    preview: Flag = Field(False, description="Reply with the queue and store nothing")


class ArgillaQuery(QueryModel):
    """The data set whose records are of the run."""

    dataset: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Name of the data set; needed if the metadata of its records have no `run`"
    )


class ReviewsQuery(QueryModel):
    """Query of `GET /runs/{run}/reviews`."""

    history: Annotated[
        bool, Field(description="true: also the reviews that a later one of the same reviewer replaces or withdraws.")
    ] = False


class NewReviewsQuery(QueryModel):
    """Members of the reviews of a request that have none of their own."""

    reviewer: Annotated[str, Field(max_length=MAX_REVIEWER_NAME)] | None = Field(
        None, description="Name of the reviewer; a named key overrides it"
    )
    queue: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Queue that the reviewer worked through; a row of a file that it does not have is an error"
    )
    adjudicate: Flag = Field(False, description="True to settle what reviewers disagree about; for owners")

    @property
    def members(self) -> dict[str, object]:
        """The parameters that are set."""
        return {name: value for name, value in self.model_dump().items() if value}


class ReviewerQuery(QueryModel):
    """The caller of a request about reviews."""

    reviewer: Annotated[str, Field(max_length=MAX_REVIEWER_NAME)] | None = Field(
        None, description="Name of the reviewer who asks; the name of the key, if it has one, overrides it"
    )


class NextQuery(ReviewerQuery):
    """Number of rows of a queue to lease."""

    limit: Annotated[int, Digits(1, MAX_LEASED_ROWS)] = Field(10, description="Maximum number of rows")


class QueueQuery(ReviewerQuery, AttributeFilters):
    """Filters, order and page of the rows of a queue."""

    sort: str | None = Field(
        None,
        description="rank (default), id, target, prediction, suggested, verdict, score, share or scores, with commas; "
        "a minus for descending",
        json_schema_extra={"pattern": optional_pattern(keys_pattern(QUEUE_SORTABLE))},
    )
    target: ClassParameter | None = Field(None, description=f"Class of the label, {BY_NAME}")
    prediction: ClassParameter | None = Field(None, description=f"Predicted class, {BY_NAME}")
    suggested: ClassParameter | None = Field(None, description=f"Suggested class, {BY_NAME}")
    verdict: VerdictFilter | None = Field(None, description="Only rows with this verdict")
    text: str | None = Field(None, description="Text in the id or an attribute, in upper or lower case")
    ranks: Integers | None = Field(None, description="Only the rows of these ranks, with commas")
    limit: Limit = Field(100, description="Maximum number of rows")
    offset: Annotated[int, Digits()] = Field(0, description="Number of rows before the page")
    around: Annotated[int, Digits()] | None = Field(
        None, description="The page with the row of this rank; `offset` is ignored"
    )
    fields: Names | None = Field(None, description="Members of the rows, with commas; default: all")
    facets: Flag = Field(False, description="Adds the attributes that have up to 20 texts")

    def filter(self, classes: RunClasses) -> QueueFilter:
        """The rows to show, and their order.

        Raises:
            InvalidRequestError: The run has no class of a name, or a sort key is unknown.
        """
        return QueueFilter(
            classes=_class_numbers(self, CLASSES, classes),
            verdict=self.verdict,
            attributes=self.attributes,
            text=self.text,
            ranks=integers(self.ranks),
            order=parse_order(self.sort) if self.sort else (),
            limit=self.limit,
            offset=self.offset,
            around=self.around,
            fields=split_names(self.fields) or None,
            facets=self.facets,
        )


class ToolQuery(QueryModel):
    """Names of a labelling tool's project."""

    from_name: str = Field("label", description="Label Studio: name of the control; Argilla: of the question")
    to_name: str | None = Field(
        None, description="Label Studio: name of the object; Argilla: of the field; default: text, for masks image"
    )
    data_key: str | None = Field(None, description="Attribute to show; default: the one called `to_name`")
    object_tag: str | None = Field(
        None, description="Label Studio's tag: Text, Image, Audio or HyperText; default: Text, for masks Image"
    )
    mask_tag: MaskTag = Field("BrushLabels", description="Label Studio's tag for regions of masks")
    image_key: str = Field("image", description="FiftyOne: attribute with the path of the image")
    image_root: str = Field("", description="FiftyOne: start of each path")

    @property
    def tool_names(self) -> dict[str, str]:
        """The names by option of `ExportOptions`."""
        return _present({name: getattr(self, name) for name in ToolQuery.model_fields})


class ExportQuery(EpochQuery, ToolQuery):
    """Rows and format of an export."""

    format: ExportFormatName = Field("jsonl", description="Format of the file")
    units: Flag | None = Field(
        None, description="Rows of an epoch of labels, tokens or masks: units (default of tables) or whole examples"
    )
    queue: str | None = Field(
        None,
        description="Name of a queue; default: the epoch's examples, largest loss first",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},
    )


class PreviewQuery(ExportQuery):
    """Rows and format of an export, and the number of rows to preview."""

    rows: Annotated[int, Digits(1, 20)] = Field(3, description="Maximum number of rows")


class CorrectedQuery(QueryModel):
    """Format and policy of the corrected data set."""

    format: CorrectedFormat = Field("jsonl", description="Format of the file")
    policy: CorrectedPolicy = Field(
        "reviewed",
        description="Source of the labels to use: the reviews; where they settle nothing, the consensus of annotators "
        "(`consensus`), or suggestions that reviews prove to be precise (`auto`)",
    )
    attributes: Flag = Field(True, description="False to leave out the attributes")
    from_name: str = Field("label", description="Label Studio: name of the control")
    to_name: str = Field("text", description="Label Studio: name of the object")
    data_key: str | None = Field(None, description="Label Studio: attribute to show; default: the one called `to_name`")

    @property
    def options(self) -> CorrectedOptions:
        """The options as the export takes them."""
        names = _present({"from_name": self.from_name, "to_name": self.to_name, "data_key": self.data_key})
        return CorrectedOptions(self.policy, self.attributes, names)


def _class_numbers(query: QueryModel, names: Sequence[str], classes: RunClasses) -> dict[str, list[int]]:
    """The class numbers of the parameters that are set."""
    numbers: dict[str, list[int]] = {}
    for name, labels in _present({name: getattr(query, name) for name in names}).items():
        try:
            numbers[name] = [classes.find(label) for label in labels]
        except ValueError as err:
            raise fault(InvalidRequestError, str(err), "query", name, detail=f"query.{name}: {err}") from err
    return numbers


def _present(values: Mapping[str, T | None]) -> dict[str, T]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
