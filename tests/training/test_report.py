"""A failed gate is published as failed, and a number nobody measured is not in the card."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.postoperative_contract import postoperative_contract  # after the skip
from training.report import Gate, model_card, reasons

_ATTRIBUTES = 31  # ONC HTI-1, 170.315(b)(11)


@pytest.mark.parametrize(
    ("gate", "row"),
    [
        (Gate(name="C", low=0.717, landmark=0.669), "| C | at least 0.717 | 0.6690 **not met** |  |"),
        (Gate(name="C", low=0.717, published=0.72), "| C | at least 0.717 |  | 0.7200 met |"),
        (Gate(name="IBS", high=0.119, landmark=0.116), "| IBS | at most 0.119 | 0.1160 met |  |"),
        (Gate(name="slope", low=0.9, high=1.1, landmark=1.2), "| slope | 0.9 to 1.1 | 1.2000 **not met** |  |"),
        (Gate(name="slope", low=0.9, landmark=float("nan")), "| slope | at least 0.9 | nan **not met** |  |"),
    ],
)
def test_a_gate_says_whether_it_is_met(gate: Gate, row: str) -> None:
    """On either side of the bar, and what is no number meets none."""
    assert gate.row == row


def test_a_reason_is_given_for_a_gate_that_is_missed_and_for_no_other() -> None:
    """Breach: a bar that is met after all still excused on the page."""
    name = "OS at 2 years, calibration slope"
    missed, met = (Gate(name=name, low=0.9, high=1.1, landmark=value) for value in (1.2, 1.0))
    assert [line.startswith(f"- {name}: ") for line in reasons([missed])] == [True]
    assert list(reasons([met])) == []


def test_the_card_has_every_attribute_and_quotes_only_what_was_measured() -> None:
    """Numbers come from the evaluation's own file; without it, the card says so."""
    card = model_card(postoperative_contract(), {"OS harrell": 0.7226}, ["made up: 3 patients."])
    assert f"| {_ATTRIBUTES}. " in card
    assert f"| {_ATTRIBUTES + 1}. " not in card
    assert "OS C 0.723" in card
    assert "RFS C not measured" in card
    assert "- made up: 3 patients." in card
