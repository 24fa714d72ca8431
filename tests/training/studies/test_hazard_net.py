"""Net N: what is censored, what is learned, and that two runs agree."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.studies.hazard_net import HazardNet, NetSettings, cells
from training.studies.measures import Outcomes, concordance
from training.studies.recalibration import fit_recalibration, log_log
from training.studies.ridge_cox import RidgeCox, Scaling

_SETTINGS = NetSettings(steps=60, members=2, linear=5.0, time=20.0, perceptron=20.0)


def _made_up(count: int) -> tuple[np.ndarray, Outcomes]:
    draw = np.random.default_rng(5)
    table = draw.normal(size=(count, 4))
    years = draw.exponential(size=count) / (0.2 * np.exp(table[:, 0]))
    return table, Outcomes(years=np.minimum(years, 5.0) + 1e-3, died=years < 5.0)


def test_a_censored_interval_counts_for_what_was_seen() -> None:
    """Half a quarter followed is half a cell of exposure; a death in it is an event there and nowhere else."""
    outcomes = Outcomes(years=np.array([0.375, 0.375, 0.25, 9.0]), died=np.array([False, True, True, True]))
    exposure, events = (part.numpy() for part in cells(outcomes, NetSettings(intervals=4)))
    assert exposure.tolist() == [[1.0, 0.5, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    assert events.tolist() == [[0.0] * 4, [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4]


def test_two_runs_agree_to_the_last_bit() -> None:
    """Dropout, bootstrap and first weights come from the seed, and the global generator is left as it was."""
    table, outcomes = _made_up(200)
    left, right = (HazardNet(table, outcomes, _SETTINGS).survival(table) for _ in range(2))
    assert left.tobytes() == right.tobytes()


def test_a_planted_signal_is_found_on_rows_never_seen() -> None:
    """One of four columns drives the hazard: C on the other half is near what the truth itself reaches."""
    table, outcomes = _made_up(1200)
    net = HazardNet(table[:600], outcomes.at(np.arange(600)), _SETTINGS)
    later = outcomes.at(np.arange(600, 1200))
    reached, possible = concordance(later, net.risk(table[600:], 2.0)), concordance(later, table[600:, 0])
    assert reached > possible - 0.02
    assert possible > 0.7


def test_survival_falls_and_stays_a_probability() -> None:
    """Curves start below one, never rise, never leave 0 to 1; risk at zero years is zero."""
    table, outcomes = _made_up(200)
    net = HazardNet(table, outcomes, _SETTINGS)
    curves = net.survival(table)
    assert ((curves >= 0.0) & (curves <= 1.0)).all()
    assert (np.diff(curves, axis=1) <= 0.0).all()
    assert net.risk(table, 0.0) == pytest.approx(np.zeros(200), abs=1e-7)


def test_missing_values_stand_at_the_training_mean() -> None:
    """NaN becomes z-score 0, learned from the rows that know; a column nobody knows says nothing."""
    table = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    assert Scaling.of(table).apply(table).tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]


def test_ridge_cox_of_unknowns_is_finite() -> None:
    """A patient of whom nothing is known gets the average risk, not NaN."""
    table, outcomes = _made_up(200)
    cox = RidgeCox(table, outcomes, 10.0)
    assert np.isfinite(cox.risk(np.full((1, 4), np.nan), 2.0)).all()


def test_recalibration_keeps_the_order_and_meets_the_mean() -> None:
    """A forecast that was shrunk to half is stretched back, and nobody overtakes anybody."""
    table, outcomes = _made_up(3000)
    shrunk = 1.0 - np.exp(-0.3 * np.exp(table[:, 0] / 2.0))
    fitted = fit_recalibration(outcomes, shrunk, 2.0)
    assert fitted.scale == pytest.approx(2.0, abs=0.15)
    after = fitted.apply(shrunk)
    assert (np.argsort(after) == np.argsort(shrunk)).all()
    assert log_log(after).std() > log_log(shrunk).std()


def test_permuted_labels_teach_nothing() -> None:
    """The leak test: with outcomes permuted in either half, the net orders the half it never saw like a coin."""
    table, outcomes = _made_up(1200)
    shuffled = outcomes.at(np.random.default_rng(8).permutation(600))
    net = HazardNet(table[:600], shuffled, _SETTINGS)
    later = outcomes.at(np.arange(600, 1200))
    draws = np.random.default_rng(9)
    assert concordance(later.at(draws.permutation(600)), net.risk(table[600:], 2.0)) == pytest.approx(0.5, abs=0.05)
