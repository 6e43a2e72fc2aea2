"""Small charts as inline SVG: bars, curves and cells, coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _axes(x_label: str, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]]) -> list[str]:
    parts = []
    for place, text in y_ticks:
        y = _y(place)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for place, text in x_ticks:
        # At the ends the text would leave the picture.
        anchor = "end" if place > 0.97 else "middle"
        at = f'x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}"'
        parts.append(f'<text class="tick" {at}>{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="label" x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return parts


def _bar(x: float, y: float, width: float, told: str, opacity: float = 1.0) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_y(0) - y:.1f}" fill-opacity="{opacity:.2f}"'
    return f'<rect class="bar" {place}><title>{told}</title></rect>'


SHARES = [(0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]


def histogram(edges: Sequence[float], counts: Sequence[int]) -> str:
    """How many examples have which loss, by the logarithm of the loss; bars are labelled by their upper edge.

    Args:
        edges: One more than counts, ascending.
        counts: Examples between them.
    """
    most, number = max(counts), len(counts)
    ticks = [(0.0, "0"), (0.5, f"{most / 2:g}"), (1.0, f"{most:g}")]
    every = max(1, number // 5)
    x_ticks = [((bar + 0.5) / number, f"{edges[bar + 1]:.0e}") for bar in range(every // 2, number, every)]
    parts = _axes("focal loss (logarithmic)", x_ticks, ticks)
    for bar, count in enumerate(counts):
        x, y = _x(bar / number), _y(count / most)
        width = _x(1 / number) - _x(0) - 1
        told = f"{count} examples from {edges[bar]:.3g} to {edges[bar + 1]:.3g}"
        parts.append(_bar(x, y, width, told))
    return _svg("How many examples have which loss", parts)


def lorenz(curves: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> str:
    """The share of the loss that the easiest examples have.

    Args:
        curves: Class of the style sheet, and points (share of the examples, share of the loss), each in [0, 1].
    """
    parts = _axes("share of the examples, easiest first", SHARES[1:], SHARES)
    parts.append(f'<line class="even" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    for kind, points in curves:
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="curve {kind}" points="{path}"/>')
    return _svg("Share of the loss that the easiest examples have", parts)


def reliability(bins: Sequence[tuple[float, float, int, float | None]]) -> str:
    """How often the model is right at which confidence.

    Args:
        bins: (lower, upper, count, accuracy or None), bounds and accuracy in [0, 1].
    """
    most = max((count for _, _, count, _ in bins), default=1) or 1
    parts = _axes("confidence of the model", SHARES[1:], SHARES)
    for lower, upper, count, accuracy in bins:
        if accuracy is None:
            continue
        x, y = _x(lower), _y(accuracy)
        told = f"{count} examples with confidence {lower:.0%} to {upper:.0%}: {accuracy:.1%} right"
        # What few examples say is pale.
        opacity = 0.25 + 0.75 * (count / most) ** 0.5
        parts.append(_bar(x + 0.5, y, _x(upper) - x - 1, told, opacity))
    parts.append(f'<line class="even" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    return _svg("How often the model is right at which confidence", parts)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A table of cells, darker the larger their share of the row; rows are labels, columns predictions."""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for label, counts in enumerate(matrix):
        total = sum(counts) or 1
        cells = "".join(
            _cell(count, count / total, right=label == prediction) for prediction, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row">{escape(names[label])}</th>{cells}</tr>')
    return f'<table class="confusion"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _cell(count: int, share: float, *, right: bool) -> str:
    # Of a good model all cells off the diagonal are pale: their shade grows with the root of the share.
    strength = share if right else share**0.5
    kind = "right" if right else "wrong"
    strong = " strong" if strength > 0.55 else ""
    return f'<td class="{kind}{strong}" style="--s:{strength:.3f}">{count or ""}</td>'
