"""The findings of a run as one HTML file: no script, nothing fetched, every text of the data escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from service import __version__
from service.cli.console import number, percent
from service.cli.report import charts
from service.cli.report.style import STYLE
from service.cli.runs.diagnose import Findings, learned

MATRIX_CLASSES = 30
CLASSES_SHOWN = 100
PAIRS_SHOWN = 15
TEXT_CHARACTERS = 300

MEANING = (
    "Without class weights focal loss ranks the examples exactly as cross-entropy does. Gamma decides how much of the "
    "loss the hard ones have, never their order.",
    "The logit margin compares the given label with the best other class; a large negative one says that the model "
    "would have chosen otherwise with conviction. It is usually the best single score for wrong labels, and it is no "
    "proof: the model may be the one that is wrong.",
    "The number of wrong labels is an estimate for the whole set. It does not say which they are: work down the "
    "ranking until few are wrong, and let a random sample tell what is left.",
    "A model that was trained on these very examples has learned some wrong labels by heart. Logits of examples that "
    "it has not seen, or of the first epochs, are better evidence.",
    "Confidence means what it says only where the bars of the calibration lie on its dashed line.",
)


def report(found: Findings) -> str:
    """The whole page."""
    one = found.diagnostics
    title = f"Run {one['run']}, epoch {one['epoch']}"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = (
        _header(found, title),
        _tiles(found),
        *(f'<p class="warning" role="note">{escape(warning["message"])}</p>' for warning in one["warnings"]),
        _charts(found),
        _label_errors(found),
        _classes(found),
        _confusion(found),
        _section("What these numbers can tell, and what not", _list(MEANING)),
        _examples(found),
        f"<footer>focal-loss {escape(__version__)}, {made}</footer>",
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _header(found: Findings, title: str) -> str:
    one = found.diagnostics
    alpha = "no class weights" if one["alpha"] is None else f"alpha {', '.join(map(number, one['alpha'][:8]))}"
    config = found.run["config"]
    what_if = "" if one["gamma"] == config["gamma"] else f" (what if: the run has gamma {number(config['gamma'])})"
    text = (
        f"{one['num_examples']:,} examples of {one['num_classes'] or 0} classes; focal loss with gamma "
        f"{number(one['gamma'])}, {alpha}{what_if}. {one['num_ignored']} ignored, {one['num_excluded']} excluded, "
        f"{one['num_duplicates']} with an id that came before."
    )
    return f"<header><h1>{escape(title)}</h1><p>{escape(text)}</p></header>"


def _tiles(found: Findings) -> str:
    one = found.diagnostics
    errors, calibration, reviews = one["label_errors"], one["calibration"], found.run["reviews"]
    tiles = [
        (number(one["loss"]["value"]), f"loss ({one['loss']['reduction']})"),
        (percent(one["loss"]["accuracy"]), "of the labels are predicted"),
        (percent(one["concentration"]["top_10_percent"]), "of the loss in the hardest 10 %"),
    ]
    if errors is not None:
        tiles.append((f"{errors['estimated']:,}", f"wrong labels, estimated ({percent(errors['share'])})"))
    if calibration is not None:
        tiles.append((percent(calibration["ece"]), "calibration error"))
    if reviews["num_reviewed"]:
        tiles.append((f"{reviews['num_wrong']} of {reviews['num_reviewed']}", "reviewed labels were wrong"))
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _charts(found: Findings) -> str:
    one = found.diagnostics
    here, plain = one["concentration"], one["concentration_at_gamma_0"]
    parts = []
    if one["histogram"]["counts"]:
        median, largest = number(one["loss"]["median"], 3), number(one["loss"]["max"], 3)
        note = f"Half of the examples have a loss below {median}; the largest is {largest}."
        parts.append(_section("Losses", charts.histogram(one["histogram"]["edges"], one["histogram"]["counts"]), note))
    if here["lorenz"]:
        note = (
            f"The hardest 1 % have {percent(here['top_1_percent'])} of the loss, at gamma 0 "
            f"{percent(plain['top_1_percent'])}; the dashed line would be one loss for all."
        )
        curves = [("plain", plain["lorenz"] or []), ("focal", here["lorenz"])]
        key = (
            f'<p class="key"><i></i>gamma {number(one["gamma"])}, Gini {number(here["gini"], 3)}'
            f'<i class="plain"></i>gamma 0, Gini {number(plain["gini"], 3)}</p>'
        )
        parts.append(_section("Where the loss sits", charts.lorenz(curves) + key, note))
    if one["calibration"] is not None and one["calibration"]["num_examples"]:
        parts.append(_calibration(one["calibration"]))
    return f'<div class="charts">{"".join(parts)}</div>'


def _calibration(measured: dict[str, Any]) -> str:
    bins = [(one["lower"], one["upper"], one["count"], one["accuracy"]) for one in measured["bins"]]
    fitted = measured["temperature"]
    note = (
        f"Sure by {percent(measured['confidence'])} on average and right in {percent(measured['accuracy'])}; bars on "
        "the dashed line would be honest, pale ones have few examples."
    )
    note += "" if fitted is None else f" Logits divided by {number(fitted, 3)} come nearest to it."
    return _section("Calibration", charts.reliability(bins), note)


def _label_errors(found: Findings) -> str:
    errors, pairs = found.diagnostics["label_errors"], found.diagnostics["class_pairs"]
    parts = []
    if errors is not None:
        parts.append(
            f"<p>Confident learning (Northcutt et al. 2021) estimates {errors['estimated']:,} wrong labels, "
            f"{percent(errors['share'])} of all. {errors['off_diagonal']:,} labels stand out one by one; that "
            "counts too few, above all where classes are few.</p>"
        )
    if found.dynamics is not None:
        parts.append(f"<p>Over the epochs: {escape(learned(found.dynamics))}</p>")
    if pairs:
        named = [(f"{found.name(one['first'])} / {found.name(one['second'])}", one["count"]) for one in pairs]
        chips = "".join(f"<li>{escape(classes)}<b>{count:,}</b></li>" for classes, count in named[:PAIRS_SHOWN])
        parts.append(f'<p>Classes taken for each other, and about how often:</p><ul class="chips">{chips}</ul>')
    return _section("Label errors", "".join(parts)) if parts else ""


def _examples(found: Findings) -> str:
    if not found.examples:
        return ""
    columns = (
        ("", "n"),
        ("example", "id"),
        ("label", ""),
        ("predicted", ""),
        ("p of label", "n"),
        ("margin", "n"),
        ("loss", "n"),
        ("verdict", ""),
        ("data", "text"),
    )
    rows = [
        (
            str(rank),
            row["id"],
            found.name(row["target"]),
            found.name(row["prediction"]),
            percent(row["p_t"], 2),
            number(row["logit_margin"], 3),
            number(row["loss"], 3),
            row["verdict"] or "",
            _data(row["attributes"]),
        )
        for rank, row in enumerate(found.examples, start=1)
    ]
    note = f"The {len(rows)} examples whose label the model contradicts most, by logit margin: look at these first."
    return _section("Where to look first", _table(columns, rows), note)


def _data(attributes: dict[str, Any]) -> str:
    text = "; ".join(f"{name}: {value}" for name, value in attributes.items())
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"


def _classes(found: Findings) -> str:
    one = found.diagnostics
    if not one["classes"]:
        return ""
    columns: list[tuple[str, str]] = [
        ("class", ""),
        ("examples", "n"),
        ("share of the loss", "share"),
        ("mean loss", "n"),
        ("recall", "n"),
        ("most often predicted instead", ""),
    ]
    with_noise = one["label_errors"] is not None
    if with_noise:
        columns += [("label noise", "n"), ("often truly", "")]
    ordered = sorted(one["classes"], key=lambda row: (-(row["loss_sum"] or 0.0), row["class"]))
    rows = []
    for row in ordered[:CLASSES_SHOWN]:
        worst = row["most_confused"]
        cells: list[str | _Bar] = [
            found.name(row["class"]),
            f"{row['count']:,}",
            _Bar(row["loss_share"] or 0.0),
            number(row["mean_loss"], 3),
            percent(row["recall"]),
            "" if worst is None else f"{found.name(worst['class'])} ({worst['count']})",
        ]
        rows.append([*cells, percent(row["label_noise"]), found.name(row["often_truly"])] if with_noise else cells)
    more = "" if len(ordered) <= CLASSES_SHOWN else f" The {CLASSES_SHOWN} first of {len(ordered)}."
    note = f"The largest share of the loss first; label noise is the estimated share of wrong labels.{more}"
    return _section("Classes", _table(columns, rows), note)


def _confusion(found: Findings) -> str:
    matrix = found.diagnostics["confusion"]["matrix"]
    if not matrix:
        return ""
    if len(matrix) <= MATRIX_CLASSES:
        names = [found.name(label) for label in range(len(matrix))]
        note = "Rows are the given labels, columns what the model predicts; blue agrees, orange does not."
        return _section("Confusion matrix", f'<div class="scroll">{charts.confusion(matrix, names)}</div>', note)
    largest = found.diagnostics["confusion"]["largest"][:PAIRS_SHOWN]
    rows = [(found.name(cell["target"]), found.name(cell["prediction"]), str(cell["count"])) for cell in largest]
    return _section("Most confused", _table((("label", ""), ("predicted", ""), ("examples", "n")), rows))


class _Bar(float):
    """A share that is shown with a bar below it."""


def _section(title: str, inner: str, note: str = "") -> str:
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{inner}</section>"


def _list(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str | _Bar]]) -> str:
    """Plain texts under heads; each column has a class of the style sheet."""
    head = "".join(f'<th scope="col"{_class(kind)}>{escape(name)}</th>' for name, kind in columns)
    body = "".join(
        f"<tr>{''.join(_cell(cell, kind) for cell, (_, kind) in zip(row, columns, strict=True))}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: str | _Bar, kind: str) -> str:
    if isinstance(cell, _Bar):
        return f'<td{_class(kind)}>{percent(cell)}<i style="width:{min(1.0, cell):.1%}"></i></td>'
    return f"<td{_class(kind)}>{escape(cell)}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
