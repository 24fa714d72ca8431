"""What is published about the model is whole: no attribute and no item is left out, unknown ones say so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inference.artifact import shipped_bundle

_DOCS = Path(__file__).parents[2] / "docs"
# ONC HTI-1, 45 CFR 170.315(b)(11)(iv): source attributes of a predictive decision support intervention, in order
_ATTRIBUTES = (
    "developer and contact", "funding of the technical implementation", "what the output means", "kind of output",
    "intended use", "intended patients", "intended users", "role in the decision", "not to be used for",
    "known risks and limits", "training inclusion and exclusion", "use of personal characteristics as inputs",
    "representativeness of the training data", "relevance of the training data to deployment",
    "approach to fair output", "bias management", "external validation: data and setting",
    "external validation: tester", "external validation: representativeness", "external validation: process",
    "validity, internal", "fairness, internal", "validity, external", "fairness, external", "outcome evaluations",
    "validity monitoring", "local validity", "fairness monitoring", "local fairness", "update process",
    "correction when risk is found",
)  # fmt: skip
_TRIPOD_PARTS = {
    3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc",
}  # fmt: skip
_TRIPOD = [f"{item}{part}" for item in range(1, 28) for part in _TRIPOD_PARTS.get(item, " ")]


@pytest.mark.parametrize("card", [_DOCS / "model_card.md", shipped_bundle() / "model_card.md"], ids=["docs", "bundle"])
def test_the_card_has_every_source_attribute_in_order(card: Path) -> None:
    """All 31 of a predictive DSI, none empty. Breach: an attribute that nobody knows is dropped, not called unknown."""
    rows = re.findall(r"^\| (\d+)\. ([^|]+) \|([^|]*)\|$", card.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(int(number), name) for number, name, _ in rows] == list(enumerate(_ATTRIBUTES, start=1))
    assert [name for _, name, text in rows if not text.strip()] == []


def test_the_checklist_answers_every_item_of_tripod_ai() -> None:
    """27 items in 52 parts, in order, each with an answer; what was not done says so."""
    text = (_DOCS / "tripod_ai.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+[a-g]?) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [number for number, _, _ in rows] == [item.strip() for item in _TRIPOD]
    assert sum("not done" in answer for _, _, answer in rows) > 0


def test_every_page_the_checklist_names_is_there() -> None:
    """A link to nothing is no answer."""
    text = (_DOCS / "tripod_ai.md").read_text(encoding="utf-8")
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not (_DOCS / link).exists()] == []


def test_the_html_report_needs_nothing_beside_it() -> None:
    """No address, script or file of its own is fetched: figures lie inside, each with a text for who cannot see it."""
    page = (_DOCS / "evaluation.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [one for one in sources if one.startswith(("http", "//", "file")) or one.endswith((".js", ".css"))] == []
    assert "<script" not in page
    assert "<img" in page
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]{1,200}", page))


def test_both_reports_show_the_same_numbers() -> None:
    """Every number of the Markdown page stands in the HTML page, in the same order."""
    number = re.compile(r"\d+\.\d+")
    markdown = re.sub(r"\]\([^)]*\)", "]", (_DOCS / "evaluation.md").read_text(encoding="utf-8"))
    page = (_DOCS / "evaluation.html").read_text(encoding="utf-8").split("<body>")[1]
    shown = re.sub(r"<[^>]*>", " ", page)
    assert number.findall(shown) == number.findall(markdown)


def test_figures_are_small_and_their_text_is_text() -> None:
    """Below 150 kB each, with words a reader can select and a machine can read."""
    for path in _DOCS.glob("evaluation-*.svg"):
        assert path.stat().st_size < 150_000, path.name
        assert "<text" in path.read_text(encoding="utf-8"), path.name
