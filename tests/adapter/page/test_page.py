"""One assessment on one page: the same numbers in every channel, nothing lost, nothing executed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

from adapter.domain.outcome import TransactionBundle
from adapter.errors import MalformedResource
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.fhir.encode import AI_CONFIDENCE, FOLLOW_UP
from adapter.page.html import as_html
from adapter.page.pdf import as_pdf
from adapter.page.view import Page, Point, page_of
from inference.contract import ModelOutput
from tests.fakes.assessments import assessment, complete_records
from tests.fakes.postoperative import banded_curves
from tests.fakes.vignettes import timeline_of, vignettes

_TALLEST_ROW = 260  # pixels; a column squeezed to one letter a line is taller


@pytest.fixture
def delivered() -> TransactionBundle:
    """One of a pretend patient whose record is complete."""
    return assessment(policy=complete_records(), mode=OutputMode.DEMO)


@pytest.fixture
def page(delivered: TransactionBundle) -> Page:
    """The same for people."""
    return _shown(delivered.content)


def _shown(content: bytes, *, newer: str | None = None) -> Page:
    return page_of(content, systems=load_delivery().systems, newer=newer)


def _resources(bundle: TransactionBundle) -> Mapping[str, dict[str, object]]:
    entries = json.loads(bundle.content, parse_float=str)["entry"]
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in entries}


def _text_of(pdf: bytes) -> str:
    return " ".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _banded(page: Page) -> Page:
    curves = (replace(curve, points=tuple(map(_widened, curve.points))) for curve in page.curves)
    return replace(page, curves=tuple(curves))


def _widened(point: Point) -> Point:
    return replace(point, low=point.percent - 5, high=point.percent + 5)


def test_every_prediction_stands_in_every_channel_as_it_was_delivered(delivered: TransactionBundle, page: Page) -> None:
    """Law 7: the EHR's percent, digit for digit, in HTML and PDF: nothing is rounded a second time."""
    predictions: list[dict[str, str]] = _resources(delivered)["RiskAssessment"]["prediction"]  # type: ignore[assignment]
    percents = [f"{prediction['probabilityDecimal']} %" for prediction in predictions]
    assert [point.number for curve in page.curves for point in curve.points] == percents
    html, pdf = as_html(page), _text_of(as_pdf(page))
    assert all(percent in html and percent in pdf for percent in percents)


def test_every_activity_and_reason_stands_in_every_channel(delivered: TransactionBundle, page: Page) -> None:
    """Law 5: treatments, what must not be given, follow-up and every note; what repeats something stands once."""
    plan = _resources(delivered)["CarePlan"]
    titles = [activity["detail"]["code"]["text"] for activity in plan["activity"]]  # type: ignore[attr-defined]
    texts = [note["text"] for note in plan["note"]]  # type: ignore[attr-defined]
    html, pdf = as_html(page), _squeezed(_text_of(as_pdf(page)))
    assert len(page.treatments) + len(page.visits) == len(titles) > 0
    assert all(_squeezed(text.removeprefix(FOLLOW_UP)) in pdf for text in (*titles, *_without_the_stop(texts, page)))
    assert all(title in html for title in titles)


def _without_the_stop(texts: list[str], page: Page) -> list[str]:
    """The stop stands among what is left open, apart from what would settle it."""
    assert page.left_open.stop
    return [text for text in texts if not text.startswith(page.left_open.stop)]


def test_each_thing_stands_once() -> None:
    """Notice, missing findings in the ask, ranges, and the stop: a reader who meets a thing twice looks for two."""
    output = replace(banded_curves(), typicality=0.017)
    for policy in (None, complete_records()):
        shown = _shown(assessment(policy=policy, output=output).content)
        html, pdf = unescape(as_html(shown)), _squeezed(_text_of(as_pdf(shown)))
        for words in (
            shown.banner,
            shown.left_open.stop,
            shown.left_open.unusual,
            shown.basis,
            "refitted on resampled",
        ):
            assert html.count(words) == pdf.count(_squeezed(words)) == 1, words
        assert "recurrence at 12 months" not in html


def test_what_the_model_has_hardly_seen_is_left_open() -> None:
    """1.7 % stands where a board looks first, and 40 % in the small print; one form of date throughout."""
    unusual, usual = (
        _shown(assessment(output=replace(banded_curves(), typicality=fraction)).content) for fraction in (0.017, 0.4)
    )
    assert "1.7 %" in unusual.left_open.unusual
    assert not any("1.7 %" in text for text in unusual.notes)
    assert usual.left_open.unusual == ""
    assert any("40.0 %" in text for text in usual.notes)
    assert not re.search(r"\d{4}-\d\d-\d\d", as_html(unusual))


def test_what_holds_of_all_adapted_visits_is_said_once_below_them() -> None:
    """That no more visits are asked for is a statement on their sum; a row says only that it is adapted."""
    later = np.interp(np.arange(1, 21), [0, 4, 8, 20], [0.0, 0.01, 0.5, 0.5]).astype(np.float32)
    nobody = np.zeros(20, dtype=np.float32)
    output = ModelOutput(recurrence=later, death_without_recurrence=nobody, death=nobody)
    shown = _shown(assessment(policy=complete_records(), output=output).content)
    assert "no more than the table's" in shown.follow_up
    assert unescape(as_html(shown)).count(shown.follow_up) == 1
    assert _squeezed(_text_of(as_pdf(shown))).count(_squeezed(shown.follow_up)) == 1
    assert sum("Research hypothesis" in visit.why for visit in shown.visits) > 1


def test_a_long_assessment_is_still_one_sheet(page: Page) -> None:
    """Eight times the reasons are set smaller; a second sheet would be lost on a ward."""
    long = replace(page, reasons=page.reasons * 8)
    assert len(PdfReader(BytesIO(as_pdf(long))).pages) == 1


def test_a_band_is_said_and_drawn(page: Page) -> None:
    """Where the model tells how sure it is, both ends stand beside the number."""
    html = as_html(_banded(page))
    point = _banded(page).curves[0].points[0]
    assert f"{point.low} to {point.high}" in html
    assert html.count("<polygon") == as_html(page).count("<polygon") + len(page.curves)


def test_the_same_assessment_is_the_same_file(page: Page) -> None:
    """Law 3: no clock and no random id in either format."""
    assert (as_html(page), as_pdf(page)) == (as_html(page), as_pdf(page))


@pytest.mark.fault("F-38")
def test_a_text_of_the_record_is_never_markup(page: Page) -> None:
    """A site's wording, or a server's, cannot run a script or break the sheet."""
    hostile = replace(page, plan="<script>alert(1)</script> & <b>", patient="Patient/<i>", notes=("a < b",))
    assert "<script>alert" not in as_html(hostile)
    assert "<script>alert(1)</script> & <b>" in _text_of(as_pdf(hostile))


def test_a_pretend_result_says_so_before_anything_else(page: Page) -> None:
    """Simulated is written wherever simulated is meant."""
    assert page.banner
    assert _text_of(as_pdf(page)).index(page.banner) < _text_of(as_pdf(page)).index(page.headline)


def test_a_sites_own_systems_are_the_pages_too(page: Page, tmp_path: Path) -> None:
    """Under other names of mode and action the banner stands and a visit stays a visit."""
    (tmp_path / "delivery.toml").write_text('[systems]\nmode = "urn:site:mode"\naction = "urn:site:action"\n')
    site = load_delivery(site_folder=tmp_path)
    bundle = assessment(policy=complete_records(), mode=OutputMode.DEMO, delivery=site)
    theirs = page_of(bundle.content, systems=site.systems)
    assert theirs.banner == page.banner
    assert (theirs.visits, theirs.treatments) == (page.visits, page.treatments)
    assert theirs.visits


def test_no_page_is_without_its_banner(delivered: TransactionBundle) -> None:
    """What does not say how far to trust it is refused by name, and not shown as if it were for use."""
    systems = {**load_delivery().systems, "mode": "urn:elsewhere:mode"}
    with pytest.raises(MalformedResource, match="urn:elsewhere:mode"):
        page_of(delivered.content, systems=systems)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"entry": []}', b'{"entry": [{"resource": {"resourceType": "Patient"}}]}']
)
def test_what_is_no_assessment_is_refused(content: bytes) -> None:
    """A transaction of something else is named, not half shown."""
    with pytest.raises(MalformedResource):
        _shown(content)


@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "phone"])
def test_a_browser_shows_it_whole(chromium_path: str, page: Page, tmp_path: Path, width: int) -> None:
    """Chromium: no error, nothing loaded from elsewhere, nothing wider than the screen, the headline in sight."""
    file = tmp_path / "page.html"
    file.write_text(as_html(_banded(page)))
    complaints: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        assert tab.get_by_text(page.headline).is_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        heights = tab.evaluate("[...document.querySelectorAll('[aria-label=Numbers] tr')].map(row => row.offsetHeight)")
        assert max(heights) < _TALLEST_ROW
        browser.close()
    assert (complaints, asked) == ([], [file.as_uri()])


def test_what_is_left_open_stands_in_both_channels() -> None:
    """The stop, what would settle it and the review come as they were delivered; a board reads them first."""
    bundle = assessment()
    open_page = _shown(bundle.content)
    resources = _resources(bundle)
    html, pdf = as_html(open_page), _text_of(as_pdf(open_page))
    wanted = resources["GuidanceResponse"]["dataRequirement"]
    names = [entry["codeFilter"][0]["code"][-1]["display"] for entry in wanted]  # type: ignore[attr-defined]
    assert open_page.left_open.settles == ", ".join(names)
    stop = str(resources["DetectedIssue"]["detail"]).partition(" To resolve: ")[0]
    said = (stop, *names, str(resources["Task"]["description"]), "By 4 Apr 2026.")
    assert all(_squeezed(words) in _squeezed(pdf) for words in said)
    assert all(words in unescape(html) for words in said)
    assert pdf.index("Left open") < pdf.index("Forecast")


def test_an_assessment_stored_before_there_were_issues_and_tasks_is_still_shown(delivered: TransactionBundle) -> None:
    """Of an older bundle nothing is left open, and its band, under the name of its time, is drawn."""
    older = json.loads(assessment(policy=complete_records(), output=banded_curves()).content)
    kinds = {"RiskAssessment", "CarePlan", "Device", "Provenance"}
    older["entry"] = [entry for entry in older["entry"] if entry["resource"]["resourceType"] in kinds]
    content = json.dumps(older).replace(AI_CONFIDENCE, "urn:adjuvant:forecast-band").encode()
    shown = _shown(content)
    assert not shown.left_open.anything
    assert "Left open" not in as_html(shown)
    assert shown.curves[0].points[0].band


def test_a_superseded_assessment_says_so_before_its_numbers(delivered: TransactionBundle) -> None:
    """Nobody reads yesterday's risk as today's: the newer assessment is named above the headline."""
    old = _shown(delivered.content, newer="0123")
    html, pdf = as_html(old), _text_of(as_pdf(old))
    assert "ra-0123" in old.superseded
    assert html.index(old.superseded) < html.index(old.headline)
    assert pdf.index("ra-0123") < pdf.index(old.headline)
    assert "Superseded" not in as_html(_shown(delivered.content))


def test_every_hand_written_case_is_one_sheet() -> None:
    """Whatever the rules say, and whatever is left open, it is one page."""
    for case in vignettes()[::15]:
        bundle = assessment(timeline_of(case), policy=case.policy)
        assert len(PdfReader(BytesIO(as_pdf(_shown(bundle.content)))).pages) == 1, case.name
