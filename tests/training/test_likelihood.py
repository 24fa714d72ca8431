"""Landmark rows become cells at risk and events, and every cell counts what it is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from tests.training.patients import row  # noqa: E402  # after the skip
from training.likelihood import batch_of, joined, log_likelihood  # noqa: E402
from training.network import FIT_QUARTERS  # noqa: E402


def test_a_relapse_moves_the_patient_to_the_second_state() -> None:
    """Relapse at 1.5 quarters, death at 3.25: at risk of both exits until the relapse, of death after it from then."""
    batch = batch_of([row(1.5, 3.25, died=True)])
    np.testing.assert_allclose(batch.exposure[0, :, :4], [[1, 0.5, 0, 0], [1, 0.5, 0, 0], [0, 0.5, 1, 0.25]], rtol=1e-6)
    assert batch.events[0].nonzero().tolist() == [[0, 1], [2, 3]]


def test_the_censored_leave_part_of_a_quarter_and_no_event() -> None:
    """Seen well until 2.4 quarters: four tenths of the third quarter count."""
    batch = batch_of([row(None, 2.4, died=False)])
    np.testing.assert_allclose(batch.exposure[0, 0, :4], [1, 1, 0.4, 0], rtol=1e-6)
    assert not batch.events.any()


def test_death_without_recurrence_is_the_other_exit() -> None:
    """It is no relapse, and nobody enters the second state."""
    batch = batch_of([row(None, 0.5, died=True)])
    assert batch.events[0].nonzero().tolist() == [[1, 0]]
    assert not batch.exposure[0, 2].any()


def test_events_after_six_years_are_beyond_the_fit() -> None:
    """Seven years: full exposure, no event in it."""
    batch = batch_of([row(28.0, 30.0, died=True)])
    assert not batch.events.any()
    assert float(batch.exposure[0, 0].sum()) == float(FIT_QUARTERS)


def test_the_likelihood_is_the_one_worked_out_by_hand() -> None:
    """Hazards 1/4, 1/4 and 1/2: well for one quarter, relapse in the second, alive half of the third."""
    logits = torch.zeros(1, 3, FIT_QUARTERS)
    logits[:, :2] = float(np.log(0.5))
    batch = batch_of([row(1.5, 2.5, died=False)])
    wanted = np.log(0.5) + np.log(0.25) + 0.5 * np.log(0.5) + 0.5 * np.log(0.5)
    np.testing.assert_allclose(float(log_likelihood(logits, batch)), wanted, rtol=1e-5)


def test_two_cohorts_keep_their_index_and_a_part_keeps_its_rows() -> None:
    """The second cohort has a baseline of its own: its rows must stay told apart."""
    both = joined(batch_of([row(None, 2.0, died=False)]), batch_of([row(1.0, 3.0, died=True)] * 2, cohort=1))
    assert both.cohort.tolist() == [0, 1, 1]
    assert len(both.part(torch.tensor([2]))) == 1
    assert both.part(torch.tensor([2])).events[0].nonzero().tolist() == [[0, 1], [2, 3]]
