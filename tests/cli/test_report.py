"""The HTML report, rendered from findings in this process."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.report.html import TEXT_CHARACTERS, render_report
from tests.cli.findings import findings, structured_findings
from tests.cli.html_page import Page

HOSTILE = (
    """</td></style><script>alert('x')</script><img src=x onerror="alert(1)"> {{ 7 * 7 }} {% raw %} &amp; \N{BULLET}"""
)


TEMPLATE_TAGS = Page(render_report(findings())).names


def test_the_page_runs_and_loads_nothing() -> None:
    page = Page(render_report(findings()))
    assert page.open == []
    assert not page.names & {"script", "link", "img", "iframe", "object", "base", "form"}
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "href", "srcset")]


@given(st.just(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1))
@pytest.mark.parametrize("classes", [2, pytest.param(31, marks=pytest.mark.slow)])
def test_texts_of_the_data_stay_texts(classes: int, text: str) -> None:
    page = Page(render_report(findings(text, classes)))
    assert page.open == []
    assert page.names <= TEMPLATE_TAGS
    assert page.text.count(f"Run {text}, epoch 1") == 2
    # Two texts for each class, two classes of a pair, an example and its verdict, a warning.
    assert page.text.count(text) >= 2 * classes + 5


def test_long_attributes_are_cut() -> None:
    page = Page(render_report(findings("x" * 2 * TEXT_CHARACTERS)))
    assert f"{'x' * (TEXT_CHARACTERS - 1)}…" in page.text


def test_a_value_that_the_template_misses_is_an_error() -> None:
    incomplete = findings()
    del incomplete.examples[0]["p_t"]
    with pytest.raises(jinja2.UndefinedError, match="p_t"):
        render_report(incomplete)


@pytest.mark.parametrize(
    ("task", "texts"),
    [
        (
            "multi_label",
            ["16 labels (3 more are ignored); 4 (25.0%) differ from their predictions, in 2 examples", "absent"],
        ),
        ("tokens", ["16 tokens", "in 2 spans of 2 examples", "Words with the most label issues", "as an entity"]),
        (
            "masks",
            ["16 pixels", "in 2 regions of 2 examples", "about 5 pixels with a wrong label (31.2%); 4 individual ones"],
        ),
    ],
)
def test_a_report_on_elements(task: str, texts: list[str]) -> None:
    page = Page(render_report(structured_findings(HOSTILE, task)))
    assert page.open == []
    assert page.names <= TEMPLATE_TAGS
    words = " ".join(page.text.split())
    for text in [*texts, "2 of 8", "0.125", "gamma changes the order"]:
        assert text in words
    # A text for each class, of the example twice and of its verdict, of a warning, and in the title.
    assert page.text.count(HOSTILE) >= 7
