"""The reply of `GET /runs/{run}/compare/{other}`.

A loss or a mean loss that overflows float64 is null, as JSON has no infinity.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from service.schema.replies.diagnostics import ClassIndex


class ComparedRun(TypedDict):
    """One of the two epochs of a comparison; `num_examples` counts distinct ids."""

    run: str
    epoch: int
    num_examples: int


class ComparedClass(ClassIndex):
    """Changes of the examples that have this label in the second run."""

    count: int
    mean_loss_before: float | None
    mean_loss_after: float | None
    num_newly_hard: int
    num_resolved: int


class ComparedExample(TypedDict):
    """One example in both runs; rank 1 is the largest loss of the common examples."""

    id: str
    target_before: int
    target_after: int
    prediction_before: int
    prediction_after: int
    loss_before: float | None
    loss_after: float | None
    rank_before: int
    rank_after: int


class Comparison(TypedDict):
    """Comparison of two runs under the same loss, over the examples that both have.

    - `top`: number of examples that count as the hardest in each run;
    - `newly_hard`: examples among the hardest of the second run only, at most 50; `resolved`: of the first run only;
    - `moves`: examples with the largest changes of rank, at most 50;
    - `num_relabelled`: examples with another label; `num_predicted_otherwise`: with another prediction;
    - `overlap`: share of the hardest examples of a run that are among the hardest of the other, null without examples;
    - `rank_correlation`: Spearman's rho of the ranks, null below two examples.
    """

    before: ComparedRun
    after: ComparedRun
    num_common: int
    num_only_before: int
    num_only_after: int
    top: int
    mean_loss_before: float | None
    mean_loss_after: float | None
    num_newly_hard: int
    num_resolved: int
    num_relabelled: int
    num_predicted_otherwise: int
    overlap: float | None
    rank_correlation: float | None
    classes: list[ComparedClass]
    newly_hard: list[ComparedExample]
    resolved: list[ComparedExample]
    moves: list[ComparedExample]
