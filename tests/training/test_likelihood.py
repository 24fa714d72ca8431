"""Landmark rows become cells at risk and events; the fit is repeatable and learns what is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from inference.contract import DAYS_PER_QUARTER, ModelInput  # noqa: E402  # after the skip
from training.cohorts.landmarks import LandmarkRow  # noqa: E402
from training.likelihood import Penalty, batch_of, fit_model  # noqa: E402
from training.network import IllnessDeath  # noqa: E402
from training.postoperative_contract import postoperative_contract  # noqa: E402


def _row(illness_quarters: float | None, last_quarters: float, *, died: bool, pn: float = 0.0) -> LandmarkRow:
    contract = postoperative_contract()
    place = next(index for index, entry in enumerate(contract.static) if entry.name == "pN")
    static, mask = np.zeros(len(contract.static), np.float32), np.zeros(len(contract.static), np.float32)
    static[place], mask[place] = pn, 1.0
    table = np.zeros((contract.sequence_length, len(contract.sequence)), np.float32)
    return LandmarkRow(
        patient_id="made-up",
        model_input=ModelInput(
            static=static,
            static_mask=mask,
            sequence=table,
            sequence_mask=table,
            sequence_age_days=table[:, 0],
            years_since_surgery=0.0,
        ),
        illness_days=None if illness_quarters is None else illness_quarters * DAYS_PER_QUARTER,
        last_days=last_quarters * DAYS_PER_QUARTER,
        died=died,
    )


def test_a_relapse_moves_the_patient_to_the_second_state() -> None:
    """Relapse at 1.5 quarters, death at 3.25: at risk of both exits until the relapse, of death after it from then."""
    batch = batch_of([_row(1.5, 3.25, died=True)])
    np.testing.assert_allclose(batch.exposure[0, :, :4], [[1, 0.5, 0, 0], [1, 0.5, 0, 0], [0, 0.5, 1, 0.25]], rtol=1e-6)
    assert batch.events[0].nonzero().tolist() == [[0, 1], [2, 3]]


def test_the_censored_leave_part_of_a_quarter_and_no_event() -> None:
    """Seen well until 2.4 quarters: four tenths of the third quarter count."""
    batch = batch_of([_row(None, 2.4, died=False)])
    np.testing.assert_allclose(batch.exposure[0, 0, :4], [1, 1, 0.4, 0], rtol=1e-6)
    assert not batch.events.any()


def test_death_without_recurrence_is_the_other_exit() -> None:
    """It is no relapse, and nobody enters the second state."""
    batch = batch_of([_row(None, 0.5, died=True)])
    assert batch.events[0].nonzero().tolist() == [[1, 0]]
    assert not batch.exposure[0, 2].any()


def test_events_after_six_years_are_beyond_the_fit() -> None:
    """Seven years: full exposure, no event in it."""
    batch = batch_of([_row(28.0, 30.0, died=True)])
    assert not batch.events.any()
    assert float(batch.exposure[0, 0].sum()) == 24.0


def test_the_fit_learns_a_risk_that_is_there_and_repeats_to_the_last_bit() -> None:
    """pN2 relapses early, pN0 late: the forecast orders them, and a second fit has the same bits."""
    draw = np.random.default_rng(5)
    rows = [_row(draw.uniform(0.5, 4), 8.0, died=False, pn=2.0) for _ in range(60)]
    rows += [_row(None, draw.uniform(10, 24), died=False) for _ in range(60)]
    batch, contract = batch_of(rows), postoperative_contract()
    first, second = (fit_model(IllnessDeath(contract), batch, Penalty(shared=10.0)) for _ in range(2))
    with torch.no_grad():
        recurrence = first(*batch.inputs)[0]
    assert float(recurrence[0, 11]) > float(recurrence[-1, 11])
    assert first.shared.detach().numpy().tobytes() == second.shared.detach().numpy().tobytes()
    assert first.baseline.detach().numpy().tobytes() == second.baseline.detach().numpy().tobytes()
