"""The replay of recurrences: each waits for the next visit, and no schedule is given more visits than another."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from inference.contract import ModelInput
from training.cohorts.landmarks import LandmarkRow
from training.crossvalidate import Study
from training.postoperative_contract import postoperative_contract
from training.studies.follow_up import findings


def _row(number: int, illness_days: float | None) -> LandmarkRow:
    nothing = np.zeros((1, 1), dtype=np.float32)
    empty = ModelInput(
        static=nothing[0],
        static_mask=nothing[0],
        sequence=nothing,
        sequence_mask=nothing,
        sequence_age_days=nothing[0],
        years_since_surgery=0.0,
    )
    return LandmarkRow(
        patient_id=f"p{number}", model_input=empty, illness_days=illness_days, last_days=2000.0, died=False
    )


def _study(*days: float | None) -> Study:
    rows = tuple(_row(number, day) for number, day in enumerate(days))
    return Study(name="made up", rows=rows, others=(), contract=postoperative_contract())


def test_a_forecast_that_knows_the_year_saves_delay() -> None:
    """Recurrences in the second year, forecast there: shorter waits at no more visits, and both gates hold."""
    days = [400.0 + 11.0 * number for number in range(30)]
    curve = np.interp(np.arange(1, 21), [0, 4, 8, 20], [0.0, 0.01, 0.9, 0.91])
    found = findings(_study(*days), np.tile(curve, (30, 1)), "made up")
    table, _shared, own = ([float(str(cell)) for cell in row[1:]] for row in found.tables[0].rows)
    assert own[0] < table[0]
    assert own[1] <= table[1]
    assert found.gates[0].passed
    assert not found.gates[1].passed  # the same forecast for all: nothing of it is the patient's own


def test_a_recurrence_after_the_last_visit_or_none_is_not_replayed() -> None:
    """Two of four patients recur within five years of surgery: two are replayed."""
    curve = np.linspace(0.02, 0.4, 20)
    found = findings(_study(100.0, 700.0, 1900.0, None), np.tile(curve, (4, 1)), "made up")
    assert found.paragraphs[0].startswith("2 recurrences")
