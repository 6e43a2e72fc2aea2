"""Tables of the findings: means over the data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean

from benchmarks.rankings.experiment import RECOMMENDED, RERANKED, WITH_BAR, Finding
from benchmarks.rankings.noise import KINDS

# The least share of what the best fixed strategy finds.
BAR = 0.99


def tables(findings: Sequence[Finding]) -> str:
    """A Markdown table for each model: the share of wrong labels found, and the average precision."""
    models = dict.fromkeys(finding.model for finding in findings)
    return "\n\n".join(_table(model, [one for one in findings if one.model == model]) for model in models)


def _table(model: str, findings: Sequence[Finding]) -> str:
    kinds = " | ".join(f"{kind} | AP" for kind in KINDS)
    lines = [f"| {model} | {kinds} | mean |", "|" + "---|" * (2 * len(KINDS) + 2)]
    rows = _rows(findings)
    best = [max(_fixed(rows, number)) for number in range(len(KINDS))]
    for ranking, (found, precisions) in rows.items():
        cells = [
            f"{_bold(share, top)} | {'' if precision is None else f'{precision:.3f}'}"
            for share, top, precision in zip(found, best, precisions, strict=True)
        ]
        name = ranking if " " in ranking else f"`{ranking}`"
        lines.append(f"| {name} | {' | '.join(cells)} | {mean(found):.3f} |")
    return "\n".join(lines)


def _bold(share: float, best: float) -> str:
    return f"**{share:.3f}**" if share >= best else f"{share:.3f}"


def _rows(findings: Sequence[Finding]) -> dict[str, tuple[list[float], list[float | None]]]:
    """The means by kind of noise, of each ranking."""
    cells: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        cells[finding.ranking, finding.noise].append(finding)
    return {
        ranking: (
            [mean(one.found for one in cells[ranking, kind]) for kind in KINDS],
            [_mean_precision(cells[ranking, kind]) for kind in KINDS],
        )
        for ranking in dict.fromkeys(finding.ranking for finding in findings)
    }


def _mean_precision(findings: Sequence[Finding]) -> float | None:
    values = [one.precision for one in findings if one.precision is not None]
    return mean(values) if values else None


def _fixed(rows: dict[str, tuple[list[float], list[float | None]]], number: int) -> Iterator[float]:
    for ranking, (found, _) in rows.items():
        if ranking not in (RECOMMENDED, *RERANKED):
            yield found[number]


def missed_bars(findings: Sequence[Finding]) -> list[str]:
    """Sentences about the models and kinds of noise for which `recommended` finds less than the bar."""
    missed = []
    for model in WITH_BAR:
        rows = _rows([one for one in findings if one.model == model])
        for number, kind in enumerate(KINDS):
            share, best = rows[RECOMMENDED][0][number], max(_fixed(rows, number))
            if share < BAR * best:
                missed.append(f"{model}, {kind}: {share:.4f}, and the best fixed strategy {best:.4f}")
    return missed
