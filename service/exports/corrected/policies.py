"""The source of the labels to use: reviews alone, the consensus of annotators too, or suggestions that proved right."""

from __future__ import annotations

import pyarrow as pa

from service.diagnostics.annotators.run_consensus import run_consensus
from service.errors import InvalidRequestError
from service.exports.corrected.automatic import LEAST_SUGGESTIONS, PRECISION, num_automatic
from service.exports.corrected.decisions import DECISIONS, reviewed_decisions
from service.exports.corrected.table import registered
from service.queries.sql import quoted
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.schema.faults import fault
from service.schema.replies.corrected import CorrectedPolicy

# A settled label is that of the reviews under every policy.
_SETTLED = "coalesce(decided IN ('kept', 'corrected', 'excluded'), false)"


def policy_decisions(view: View, history: ReviewHistory, policy: CorrectedPolicy) -> pa.Table:
    """The decisions on the examples of a run with one class each, with the columns of DECISIONS.

    Raises:
        InvalidRequestError: The policy needs more verdicts, or logits that are not stored.
    """
    reviewed = reviewed_decisions(history.verdicts)
    if policy == "consensus":
        return _with_consensus(view, history, reviewed)
    return _with_suggestions(view, reviewed) if policy == "auto" else reviewed


def _with_consensus(view: View, history: ReviewHistory, reviewed: pa.Table) -> pa.Table:
    """The decisions, and those of the consensus of annotators and reviewers on examples that no verdict settles."""
    epoch = view.snapshot.epoch()
    consensus = run_consensus(view, epoch, history.verdicts_of(epoch)).table.select(["id", "consensus"])
    sql = f"""SELECT id, CASE WHEN {_SETTLED} OR consensus IS NULL THEN decided ELSE 'corrected' END AS decided,
            CASE WHEN {_SETTLED} OR consensus IS NULL THEN right_label ELSE consensus END AS right_label,
            coalesce(reviewers, []) AS reviewers, comment
        FROM {registered(view, reviewed)} FULL JOIN {registered(view, consensus)} USING (id)
        WHERE decided IS NOT NULL OR consensus IS NOT NULL"""
    return view.table(sql).cast(DECISIONS)


def _with_suggestions(view: View, reviewed: pa.Table) -> pa.Table:
    """The decisions, and the model's classes of the unreviewed examples for which they are precise."""
    decisions = registered(view, reviewed)
    suggestions = f"""(SELECT id, prediction, logit_margin, decided, right_label
        FROM {view.stored(view.snapshot.epoch())} LEFT JOIN {decisions} USING (id) WHERE prediction != target)"""
    settled = view.rows(
        f"""SELECT logit_margin, decided = 'corrected' AND right_label = prediction AS is_right
        FROM {suggestions} WHERE decided IN ('kept', 'corrected') ORDER BY logit_margin, id"""
    )
    number = num_automatic([row["is_right"] for row in settled])
    if not number:
        raise fault(InvalidRequestError, _too_few([row["is_right"] for row in settled]), "query", "policy")
    margin = settled[number - 1]["logit_margin"]
    right = sum(row["is_right"] for row in settled[:number])
    comment = f"automatic: {right} of the {number} reviewed suggestions with a margin up to {margin:.4g} were right"
    sql = f"""SELECT id, 'corrected' AS decided, prediction AS right_label, []::VARCHAR[] AS reviewers,
            {quoted(comment)} AS comment
        FROM {suggestions} WHERE decided IS NULL AND logit_margin <= CAST({quoted(repr(margin))} AS FLOAT)"""
    return pa.concat_tables([reviewed, view.table(sql).cast(DECISIONS)])


def _too_few(is_right: list[bool]) -> str:
    """The reason why no suggestion is used without a review."""
    if len(is_right) < LEAST_SUGGESTIONS:
        return (
            f"policy auto needs at least {LEAST_SUGGESTIONS} examples with a settled verdict whose label differs from "
            f"the model's class; the run has {len(is_right)}"
        )
    first = is_right[:LEAST_SUGGESTIONS]
    return (
        f"{sum(first)} of the {LEAST_SUGGESTIONS} reviewed suggestions with the smallest margins are right, which does "
        f"not prove that {PRECISION:.0%} are: review more, or use policy reviewed"
    )
