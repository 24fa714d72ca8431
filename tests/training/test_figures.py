"""The rule without a model, the overlap of arms, and the three patients are what their captions say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from tests.training.patients import cohort, row  # after the skip
from training.crossvalidate import OURS, Study
from training.examples import described, examples
from training.figure_captions import FIGURES, figure_lines
from training.figures import high_risk_by_rule
from training.html_page import as_html
from training.metrics import Seen, net_benefit, net_benefit_of
from training.overlap import Overlap
from training.postoperative_contract import postoperative_contract
from training.study_figures import draw_policy

_CONTRACT = postoperative_contract()
_NAMES = [entry.name for entry in _CONTRACT.static]


def test_the_rule_treats_advanced_stage_extension_and_margins() -> None:
    """Each alone is enough; what is not known is not held against anybody."""
    rows = [row(None, 4.0, died=False, pn=pn) for pn in (0.0, 2.0, 0.0, 0.0, 0.0)]
    for patient, name in ((rows[2], "ene"), (rows[3], "margin"), (rows[4], "ene")):
        patient.model_input.static[_NAMES.index(name)] = 1.0
        patient.model_input.static_mask[_NAMES.index(name)] = 1.0
    rows[4].model_input.static_mask[_NAMES.index("ene")] = 0.0
    assert high_risk_by_rule(rows, _CONTRACT).tolist() == [False, True, True, True, False]


def test_a_rule_and_a_forecast_that_treat_the_same_patients_are_worth_the_same() -> None:
    """Net benefit knows who is treated, not why."""
    seen = Seen(events=np.array([True, False, True, False]), days=np.array([10.0, 50.0, 20.0, 60.0]))
    risk = np.array([0.9, 0.1, 0.8, 0.3])
    assert net_benefit(risk, seen, 40.0, 0.2) == net_benefit_of(risk >= 0.2, seen, 40.0, 0.2)


def test_arms_that_everybody_could_get_overlap_and_arms_by_rule_do_not() -> None:
    """Even chances: all inside, the effective number is the number. One in twenty: outside."""
    treated = np.array([True, True, False, False])
    even = Overlap(name="even", propensity=np.full(4, 0.5), treated=treated)
    assert (even.inside, even.effective) == (1.0, (2.0, 2.0))
    assert Overlap(name="rare", propensity=np.full(4, 0.05), treated=treated).inside == 0.0


def _study(count: int) -> tuple[Study, list[dict[str, np.ndarray]]]:
    """Rows in five folds, each row's risk its own number; the last is unlike all others."""
    study = Study(name="landmark", rows=cohort(count), others=(), contract=_CONTRACT, repeats=1)
    level = np.linspace(0.9, 0.1, count)
    typicality = np.full(count, 0.5)
    typicality[-1] = 0.001
    folds = []
    for test in np.array_split(np.arange(count), 5):
        curves = np.tile(level[test][:, None], (1, 20))
        band = np.zeros((len(test), 3, 20))
        models = {f"{OURS}/{name}": curves for name in ("RFS", "OS", "recurrence")}
        folds.append({"test": test, "low": band, "high": band, "typicality": typicality[test], **models})
    return study, folds


def test_three_patients_are_chosen_by_rule_and_an_abstention_shows_no_forecast() -> None:
    """A low risk, a high risk, the least usual one with what is unusual; ages by decade, no identifier."""
    study, folds = _study(40)
    low, high, withheld = examples(study, folds)
    assert low.recurrence[0] < high.recurrence[0]
    assert (low.unusual, high.unusual) == (None, None)
    assert withheld.unusual is not None
    assert "made-up" not in low.findings + high.findings + withheld.findings


def test_a_patient_is_described_by_known_findings_only() -> None:
    """Nodes and age by decade are known here, and nothing else is said."""
    assert described(row(None, 4.0, died=False, pn=2.0, age=63.0), _CONTRACT) == "woman of 60-69, pN2"


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_caption_that_says_what_it_means(name: str) -> None:
    """A picture, its text for who cannot see it, and a sentence of its own."""
    image, _, caption, _ = figure_lines(name)
    assert image.startswith("![")
    assert len(caption) > 100


def test_the_policy_figure_reads_the_studys_own_table(tmp_path: Path) -> None:
    """The page of the study is enough; text stays text."""
    pages = Path(__file__).parents[2] / "docs" / "evaluation"
    draw_policy(pages, tmp_path)
    worlds = {cells[0] for table in json.loads((pages / "treatment.json").read_text())["tables"]
              if "by policy" in table["caption"] for cells in table["rows"]}  # fmt: skip
    drawn = (tmp_path / "evaluation-policy.svg").read_text()
    assert all(f">{world}</text>" in drawn for world in worlds)


def test_the_html_page_carries_its_figures(tmp_path: Path) -> None:
    """The bytes of the figure lie in the page; markup in a title is inert."""
    (tmp_path / "a.svg").write_text("<svg/>")
    page = as_html("# Title <b>\n\n![seen](a.svg)\n\n| a |\n|---|\n| 0.5 |\n", tmp_path)
    assert "data:image/svg+xml;base64,PHN2Zy8+" in page
    assert "<title>Title &lt;b&gt;</title>" in page
    assert "<td>0.5</td>" in page
