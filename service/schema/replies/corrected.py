"""Words of `/runs/{run}/corrected`."""

from __future__ import annotations

from typing import Literal

CorrectedFormat = Literal["csv", "jsonl", "parquet", "arrow", "label-studio"]
CorrectedStatus = Literal["kept", "corrected", "excluded", "unsure", "conflict", "unreviewed"]
CorrectedPolicy = Literal["reviewed", "consensus", "auto"]
