"""The bound of the wrong labels that are left covers the true number, however the rest was reviewed."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import numpy as np
import pytest

from service.diagnostics.remaining import Evidence, num_set_apart
from tests.lanes import mostly_slow

SIMULATIONS = 1000
# 95 % less the chance of 1000 simulations: the exact coverage is never below 95 %.
LEAST = 0.95 - 0.015
cached_upper = cache(Evidence.upper)


def simulate(rng, examples, share, *, drawn, before=0, after=0, unsure=0.0, other_order=False):
    """Evidence of one data set, and the number of wrong labels that are left.

    The reviewers go through the most suspicious `before` examples, then a random slice of `drawn`, then `after` further
    suspicious ones without a verdict. Suspicion is right more often than not.
    """
    wrong = rng.random(examples) < share
    suspicious = np.argsort(-(wrong + rng.normal(0, 0.7, examples)))
    judged = np.zeros(examples, dtype=bool)
    judged[suspicious[:before]] = True
    early = judged.copy()
    slice_rows = rng.permutation(examples)[:drawn]
    undecided = np.zeros(examples, dtype=bool)
    undecided[slice_rows] = rng.random(drawn) < unsure
    undecided &= ~early
    judged[slice_rows] = True
    judged &= ~undecided
    # The ranking of the service may be another one than that of the reviewers.
    ranking = np.argsort(-(wrong + rng.normal(0, 0.7, examples))) if other_order else suspicious
    rest = suspicious[~judged[suspicious] & ~undecided[suspicious]]
    judged[rest[:after]] = True
    apart = early.copy()
    if after:
        apart[ranking[: num_set_apart(judged[ranking])]] = True
    in_sample = np.zeros(examples, dtype=bool)
    in_sample[slice_rows] = True
    in_sample &= ~apart
    evidence = Evidence(
        apart=int(apart.sum()),
        apart_judged=int((apart & judged).sum()),
        apart_wrong=int((apart & judged & wrong).sum()),
        population=int((~apart).sum()),
        population_judged=int((judged & ~apart).sum()),
        population_wrong=int((judged & ~apart & wrong).sum()),
        sample=int((in_sample & judged).sum()),
        wrong=int((in_sample & judged & wrong).sum()),
        undecided=int((in_sample & undecided).sum()),
        open_share=0.5,
    )
    return evidence, int((wrong & ~judged).sum())


CASES = [
    (12, 0.2, {"drawn": 5}),
    (40, 0.1, {"drawn": 10, "after": 5}),
    (2000, 0.03, {"drawn": 150, "before": 100}),
    (300, 0.0, {"drawn": 40}),
    (2000, 0.03, {"drawn": 150}),
    (2000, 0.03, {"drawn": 150, "after": 100}),
    (2000, 0.03, {"drawn": 150, "after": 100, "other_order": True}),
    (2000, 0.1, {"drawn": 60, "before": 150, "after": 150}),
    (2000, 0.05, {"drawn": 150, "after": 60, "unsure": 0.2}),
    (50_000, 0.01, {"drawn": 200, "after": 400}),
]


@pytest.mark.parametrize(("examples", "share", "reviewing"), mostly_slow(CASES, quick=3))
def test_covers_the_true_number(examples, share, reviewing):
    rng, covered = np.random.default_rng(examples), 0
    if examples == 50_000:
        rng = np.random.default_rng(1)
    number = SIMULATIONS if examples < 50_000 else 300
    for _ in range(number):
        evidence, left = simulate(rng, examples, share, **reviewing)
        upper = cached_upper(evidence)
        if upper is None:
            assert not evidence.sample
            upper = evidence.num_left
        assert 0 <= upper <= evidence.num_left
        covered += upper >= left
    assert covered / number >= LEAST


def evidence_of(**changes):
    base = dict.fromkeys([field.name for field in fields(Evidence)], 0)
    return Evidence(**(base | {"population": 1000, "population_judged": 100, "sample": 100} | changes))


def test_without_a_judged_row_nothing_is_known():
    evidence = evidence_of(sample=0, population_judged=0, undecided=0)
    assert (evidence.upper(), evidence.estimate(), evidence.upper_if_undecided_wrong()) == (None, None, None)


def test_nothing_found_is_not_nothing_left():
    assert evidence_of().estimate() == 0
    assert 20 < evidence_of().upper() < 30  # the rule of three: 3 / 100 of 1000, less for the finite population


def test_a_review_of_everything_leaves_nothing():
    evidence = evidence_of(population_judged=1000, population_wrong=40, sample=100, wrong=4)
    assert (evidence.num_left, evidence.upper(), evidence.estimate()) == (0, 0, 0)


def test_undecided_rows_can_count_as_wrong():
    evidence = evidence_of(undecided=5)
    assert evidence.upper_if_undecided_wrong() > evidence.upper() + 50


def test_found_labels_are_not_left():
    bounds = [evidence_of(population_judged=300, population_wrong=found).upper() for found in (0, 10, 20)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[2] > 0


def test_suspicious_examples_that_are_judged_give_a_smaller_bound():
    """Without them 6 of 100 random rows are wrong, with them none of 90, and few can be left."""
    whole = evidence_of(population_judged=190, population_wrong=60, wrong=6)
    parted = evidence_of(
        apart=100,
        apart_judged=98,
        apart_wrong=60,
        population=900,
        population_judged=92,
        sample=92,
        wrong=0,
        open_share=0.25,
    )
    assert parted.num_left == whole.num_left
    assert parted.upper() < 0.6 * whole.upper()
    assert parted.estimate() == 0.25 * 2


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ("", 0),
        ("000", 3),
        ("1111", 4),
        ("000000", 5),
        ("1" * 30 + "0" * 20, 35),
        ("1" * 30 + "00" + "1" * 20 + "0000" + "1" * 30 + "00000", 91),
        (("1" * 9 + "0") * 20, 200),
    ],
)
def test_set_apart_until_too_many_are_open(judged, expected):
    assert num_set_apart(np.array([mark == "1" for mark in judged], dtype=bool)) == expected
