"""Prediction of the wrong labels among the next rows of a queue, from the verdicts on its earlier rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.diagnostics.chunks import Booleans, Floats

DRAWS = 1000
ROWS_AT_ONCE = 1000
# Standard deviations of the normal priors. They keep the coefficients finite where all verdicts are equal.
INTERCEPT_SD, SLOPE_SD = 4.0, 5.0
STEPS = 50
# Prediction of the first n rows: their number of wrong labels in the mean, and a 95 % interval.
Prediction = tuple[float, int, int]


class WrongLabelModel:
    """Probability that the label of a row is wrong: a logistic regression on features of the row (Platt 1999).

    The posterior is approximated by a normal distribution at its mode (Laplace). The features are standardised.

    Args:
        features: (n, k) float64 features of rows with a verdict.
        wrong: (n,) True for wrong labels.
    """

    def __init__(self, features: Floats, wrong: Booleans) -> None:
        self._center = features.mean(axis=0)
        spread = features.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        design = self._design(features)
        precision = np.diag(np.r_[INTERCEPT_SD**-2, np.full(features.shape[1], SLOPE_SD**-2)])
        self._mode, self._covariance = _fit(design, wrong.astype(np.float64), precision)

    def predict(self, features: Floats, sizes: Sequence[int], seed: int = 0) -> list[Prediction]:
        """Predict the wrong labels among the first rows.

        Args:
            features: (m, k) features of the next rows, in order.
            sizes: Numbers of first rows, each in [1, m], ascending.
            seed: Seed of the draws.
        """
        generator = np.random.default_rng(seed)
        coefficients = generator.multivariate_normal(self._mode, self._covariance, DRAWS, method="cholesky")
        counts, mean = np.zeros(DRAWS, dtype=np.int64), 0.0
        predictions: list[Prediction] = []
        for first, last in _parts(sizes):
            p = _logistic(coefficients @ self._design(features[first:last]).T)
            counts += (generator.random(p.shape) < p).sum(axis=1)
            mean += float(p.mean(axis=0).sum())
            if last in sizes:
                low, high = np.percentile(counts, (2.5, 97.5), method="inverted_cdf").tolist()
                predictions.append((mean, int(low), int(high)))
        return predictions

    def _design(self, features: Floats) -> Floats:
        scaled = (features - self._center) / self._scale
        return np.hstack([np.ones((len(features), 1)), scaled])


def _parts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of rows that end at each size, and have at most `ROWS_AT_ONCE` rows."""
    ends = sorted({*sizes, *range(ROWS_AT_ONCE, max(sizes, default=0), ROWS_AT_ONCE)})
    return list(zip([0, *ends], ends, strict=False))


def _fit(design: Floats, wrong: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Mode and covariance of the coefficients, by Newton's method with halved steps."""
    coefficients = np.zeros(design.shape[1])
    value = _objective(design, wrong, precision, coefficients)
    for _ in range(STEPS):
        p = _logistic(design @ coefficients)
        gradient = design.T @ (wrong - p) - precision @ coefficients
        step = np.linalg.solve(_hessian(design, p, precision), gradient)
        while (better := _objective(design, wrong, precision, coefficients + step)) < value and np.abs(
            step
        ).max() > 1e-9:
            step /= 2
        coefficients, value = coefficients + step, better
        if np.abs(step).max() < 1e-9:
            break
    covariance = np.linalg.inv(_hessian(design, _logistic(design @ coefficients), precision))
    return coefficients, np.asarray(covariance, dtype=np.float64)


def _objective(design: Floats, wrong: Floats, precision: Floats, coefficients: Floats) -> float:
    """Logarithm of the posterior density, without its constant."""
    logits = design @ coefficients
    return float(wrong @ logits - np.logaddexp(0, logits).sum() - coefficients @ precision @ coefficients / 2)


def _hessian(design: Floats, p: Floats, precision: Floats) -> Floats:
    return np.asarray((design * (p * (1 - p))[:, None]).T @ design + precision)


def _logistic(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
