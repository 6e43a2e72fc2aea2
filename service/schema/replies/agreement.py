"""The reply of `GET /runs/{run}/agreement`."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, Count, Estimate, Share, Timestamp, Unit, Verdict

Reviewer = Annotated[str | None, Field(description="null: the reviews without a name, as of one person")]
Kappa = Annotated[float | None, Field(le=1, description="1 for full agreement, 0 for that of chance; null: undefined")]


class PairAgreement(TypedDict):
    """Agreement of two reviewers about the examples and units that both judged."""

    first: Reviewer
    second: Reviewer
    num_common: Annotated[int, Field(ge=1, description="Examples and units that both judged")]
    agreement: Annotated[Share, Field(description="Share of them with the same label")]
    cohen_kappa: Kappa


class Uptake(TypedDict):
    """Share of judged rows with a suggestion of the model whose reviewer gave the suggested label."""

    rows: Annotated[Count, Field(description="Rows with the verdict ok or wrong")]
    taken: Count
    share: Annotated[Share | None, Field(description="null without rows")]
    low: Annotated[Share | None, Field(description="Lower end of the 95 % Wilson interval")]
    high: Annotated[Share | None, Field(description="Upper end of the interval")]


class GoldRows(TypedDict):
    """Verdicts of a reviewer on gold rows, whose right verdict is known."""

    rows: Annotated[Count, Field(description="Gold rows with another verdict than unsure")]
    hits: Annotated[Count, Field(description="Rows with the right verdict, and the right label if both are given")]
    share: Annotated[Share | None, Field(description="null without rows")]


class ReviewerSummary(TypedDict):
    """The verdicts of one reviewer that count."""

    reviewer: Reviewer
    num_reviewed: Annotated[Count, Field(description="Examples and units with a verdict")]
    num_ok: Count
    num_wrong: Count
    num_unsure: Count
    num_exclude: Count
    gold: Annotated[
        GoldRows | None, Field(description="null unless the caller is an owner: others must not recognise gold rows")
    ]
    suggestion_shown: Uptake
    suggestion_hidden: Uptake


class ConflictingReview(TypedDict):
    """One of the reviews of a conflict."""

    review: Annotated[str, Field(description="Id of the review")]
    reviewer: Reviewer
    verdict: Verdict | None
    label: ClassIndex | None
    comment: str | None
    at: Timestamp


class Conflict(TypedDict):
    """An example or unit about which reviewers disagree."""

    id: str
    unit: NotRequired[Unit]
    epoch: NotRequired[Annotated[int, Field(ge=0, description="Epoch in which the mask has this region")]]
    num_reviews: Annotated[int, Field(ge=2, description="Reviewers with a verdict")]
    reviews: Annotated[list[ConflictingReview], Field(description="In the order of arrival; at most 20")]


class AgreementMeasures(TypedDict):
    """Agreement of the reviewers of a run, and the verdicts of each of them.

    The category of a verdict is the label that follows from it: the given one for ok, the named one for wrong, and "not
    the given label" for wrong without a label. The verdicts unsure and exclude are missing values.
    """

    num_items: Annotated[Count, Field(description="Examples and units with a verdict")]
    num_compared: Annotated[Count, Field(description="Examples and units that at least two reviewers judged")]
    num_reviewers: Count
    fleiss_kappa: Kappa
    krippendorff_alpha: Annotated[Estimate, Field(description="Of nominal categories, with a bootstrap interval")]
    pairs: Annotated[
        list[PairAgreement], Field(description="Pairs with common items, most common items first; at most 500")
    ]
    reviewers: Annotated[list[ReviewerSummary], Field(description="Most verdicts first; at most 100")]
    suggestion_shown: Annotated[Uptake, Field(description="Of all reviewers who saw the suggestion")]
    suggestion_hidden: Annotated[Uptake, Field(description="Of all reviewers who did not see it")]


class Agreement(AgreementMeasures):
    """Agreement of the reviewers of a run, and a page of their conflicts."""

    run: str
    num_conflicts: Annotated[Count, Field(description="Examples and units in conflict, on all pages")]
    offset: Annotated[Count, Field(description="Number of conflicts before this page")]
    conflicts: Annotated[list[Conflict], Field(description="By id")]
