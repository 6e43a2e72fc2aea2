"""One damaged file of a run: the other runs reply as before, this one names run and file, and it can be deleted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import settings

from tests.damage.damaged_runs import DamagedRuns, damaged_runs

FLIPS = 2
# Bytes of the header: each of the first, then one in eight; with HYPOTHESIS_PROFILE=fuzz each of 64.
HEADER = range(64) if settings.default.max_examples > 100 else (*range(4), *range(4, 64, 12))


@pytest.fixture(scope="module")
def runs() -> Iterator[DamagedRuns]:
    with damaged_runs() as service:
        yield service


def name_of(kind: str) -> str:
    """Folder and ending of a file: its kind, without random parts."""
    *_, folder, name = ["", *kind.split("/")]
    return f"{folder}/{name}" if "json" in name or "level" in name else name


def whole_damage(content: bytes) -> dict[str, tuple[bytes | None, bool]]:
    """Content of a damaged file, and True for a folder in its place, by kind of damage."""
    junk = random.Random(0).randbytes(len(content))
    return {
        "empty": (b"", False),
        "cut": (content[: len(content) // 2], False),
        "junk": (junk, False),
        "other json": (b'{"a": [1, 2]}', False),
        "folder": (b"", True),
        "missing": (None, False),
    }


def is_copy(kind: str) -> bool:
    """True for the second copy of the manifest, which only `focal-loss verify` reads."""
    return kind.count("/") == 1 and kind.endswith("/run.json")


def different(runs: DamagedRuns) -> list[str]:
    """The files of the run, with one of the batches that are not merged."""
    return [kind for kind in runs.kinds() if kind.endswith((".json", "1/batch-b0.parquet")) or "level" in kind]


def check(runs: DamagedRuns, kind: str, damage: str) -> None:
    content, is_folder = whole_damage(runs.content(kind))[damage]
    outcomes = runs.check(kind, content, is_folder=is_folder)
    if damage in ("missing", "folder") and kind != "run.json":
        # A batch, a queue or a review that is missing is one that never was.
        return
    assert ("named" in outcomes) != is_copy(kind), (kind, damage, outcomes)


def test_a_file_that_cannot_be_read_is_named(runs: DamagedRuns) -> None:
    """A damage for every third file; `slow` tests all of them."""
    for kind, damage in zip(
        different(runs)[::3], cycle(("cut", "other json", "junk", "empty", "folder")), strict=False
    ):
        check(runs, kind, damage)
    check(runs, "run.json", "missing")


@pytest.mark.slow
def test_every_damage_of_every_file_is_named(runs: DamagedRuns) -> None:
    for kind in runs.kinds():
        for damage in whole_damage(b""):
            check(runs, kind, damage)


def flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.mark.slow
def test_bytes_of_the_header_and_flipped_bits(runs: DamagedRuns, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    table: dict[str, Counter[str]] = {}
    for kind in different(runs):
        content = runs.content(kind)
        places = [(place, rng.randrange(8)) for place in HEADER if place < len(content)]
        places += [(rng.randrange(len(content)), rng.randrange(8)) for _ in range(FLIPS)]
        counts = table.setdefault(name_of(kind), Counter())
        for place, bit in places:
            before = runs.outcomes["verified"]
            outcomes = runs.check(kind, flipped(content, place, bit))
            counts["cases"] += 1
            counts["named"] += "named" in outcomes
            counts["verified"] += runs.outcomes["verified"] - before
    with capsys.disabled():
        print(f"\n{'file':44} {'cases':>6} {'named':>6} {'by verify':>9}")
        for name, counts in table.items():
            print(f"{name:44} {counts['cases']:6} {counts['named']:6} {counts['verified']:9}")
        print(f"replies: {dict(runs.outcomes)}")
