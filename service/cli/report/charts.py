"""Small charts as inline SVG: bars and curves, coloured by the style sheet of the report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from service.schema.replies.diagnostics import CalibrationBin

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
SHARES = [(0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]


def histogram(edges: Sequence[float], counts: Sequence[int]) -> Markup:
    """Draw the number of examples by loss on a logarithmic axis; bars are labelled by their upper edge.

    Args:
        edges: Losses in ascending order, one more than counts.
        counts: Number of examples in each bin.
    """
    most, number = max(counts), len(counts)
    ticks = [(0.0, "0"), (0.5, f"{most / 2:g}"), (1.0, f"{most:g}")]
    every = max(1, number // 5)
    x_ticks = [((bar + 0.5) / number, f"{edges[bar + 1]:.0e}") for bar in range(every // 2, number, every)]
    parts = _axes("focal loss (logarithmic)", x_ticks, ticks)
    for bar, count in enumerate(counts):
        x, y = _x(bar / number), _y(count / most)
        width = _x(1 / number) - _x(0) - 1
        parts.append(_bar(x, y, width, f"{count} examples from {edges[bar]:.3g} to {edges[bar + 1]:.3g}"))
    return _svg("Number of examples by loss", parts)


def lorenz(curves: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> Markup:
    """Draw Lorenz curves: the share of the loss in the examples with the smallest losses.

    Args:
        curves: Class of the style sheet, and points (share of the examples, share of the loss), each in [0, 1].
    """
    parts = _axes("share of the examples, smallest loss first", SHARES[1:], SHARES)
    parts.append(_diagonal())
    for kind, points in curves:
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="curve {escape(kind)}" points="{path}"/>')
    return _svg("Share of the loss in the examples with the smallest losses", parts)


def reliability(bins: Sequence[CalibrationBin]) -> Markup:
    """Draw the accuracy of the model by its confidence; empty bins have no bar."""
    most = max((cell["count"] for cell in bins), default=1) or 1
    parts = _axes("confidence of the model", SHARES[1:], SHARES)
    for cell in bins:
        lower, upper, count, accuracy = cell["lower"], cell["upper"], cell["count"], cell["accuracy"]
        if accuracy is None:
            continue
        x, y = _x(lower), _y(accuracy)
        text = f"{count} examples with confidence {lower:.0%} to {upper:.0%}: {accuracy:.1%} right"
        # Bars of few examples are pale.
        opacity = 0.25 + 0.75 * (count / most) ** 0.5
        parts.append(_bar(x + 0.5, y, _x(upper) - x - 1, text, opacity))
    parts.append(_diagonal())
    return _svg("Accuracy of the model by its confidence", parts)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _svg(title: str, parts: Sequence[str]) -> Markup:
    return Markup(
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
        # A centred text at the right end would leave the picture.
        anchor = "end" if place > 0.97 else "middle"
        at = f'x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}"'
        parts.append(f'<text class="tick" {at}>{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="label" x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return parts


def _bar(x: float, y: float, width: float, text: str, opacity: float = 1.0) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_y(0) - y:.1f}" fill-opacity="{opacity:.2f}"'
    return f'<rect class="bar" {place}><title>{escape(text)}</title></rect>'


def _diagonal() -> str:
    return f'<line class="even" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
