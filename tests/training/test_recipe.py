"""The whole recipe on made-up patients: it finds what is there, repeats to the last bit, and is calibrated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from tests.training.patients import cohort, row  # noqa: E402  # after the skip
from training.engineering import Engineering  # noqa: E402
from training.fitting import Covariates, Penalty, Schedule, fit_ensemble  # noqa: E402
from training.likelihood import batch_of, log_likelihood  # noqa: E402
from training.metrics import harrell  # noqa: E402
from training.network import IllnessDeath  # noqa: E402
from training.postoperative_contract import postoperative_contract  # noqa: E402
from training.recipe import QUICK, engineered, fit, fitted_logits  # noqa: E402
from training.summary import seen_of  # noqa: E402
from training.teacher import mean_survival, swapped_rows  # noqa: E402

_ROWS = cohort(240)
_LITTLE = replace(QUICK, trees=10, swapped=100, steps=60)


@pytest.fixture(scope="module")
def model() -> IllnessDeath:
    """One small fit, calibrated."""
    return fit(_ROWS, (), postoperative_contract(), _LITTLE, seed=1).model


def test_the_fit_finds_a_risk_that_is_there(model: IllnessDeath) -> None:
    """pN2 relapses early: patients the fit never saw are put in that order."""
    others = cohort(200, seed=6)
    with torch.no_grad():
        recurrence, without, *_ = model(*batch_of(others).inputs)
    assert harrell((recurrence + without)[:, 11].numpy().astype(np.float64), seen_of(others, "RFS")) > 0.6


def test_a_second_fit_has_the_same_bits(model: IllnessDeath) -> None:
    """Breach: a bundle that nobody can make again."""
    again = fit(_ROWS, (), postoperative_contract(), _LITTLE, seed=1).model
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == {
        name: value.numpy().tobytes() for name, value in again.state_dict().items()
    }


def test_the_forecast_lies_inside_its_band(model: IllnessDeath) -> None:
    """At every quarter, of every outcome, and the band rises too."""
    with torch.no_grad():
        *curves, low, high, _ = model(*batch_of(_ROWS).inputs)
    middle = torch.stack(curves, dim=1)
    assert (low <= middle).all()
    assert (middle <= high).all()
    for bound in (low, high):
        assert (torch.diff(bound, dim=2) >= 0).all()
        assert ((bound >= 0) & (bound <= 1)).all()
    assert float((high - low).max()) > 0.0


def test_nobody_is_as_unusual_as_one_beyond_all_training_patients(model: IllnessDeath) -> None:
    """Age 140 is told; of new patients from the same source about one in twenty is among the rarest twentieth."""
    with torch.no_grad():
        strange = model(*batch_of([row(None, 4.0, died=False, age=140.0)]).inputs)[-1]
        usual = model(*batch_of(cohort(400, seed=7)).inputs)[-1]
    assert float(strange) < 0.02
    assert 0.01 < float((usual < 0.05).float().mean()) < 0.12


def test_calibration_does_not_worsen_the_likelihood_of_new_patients_by_much(model: IllnessDeath) -> None:
    """Scale and offset are learned on inner folds, and hold on patients that neither saw."""
    batch = batch_of(cohort(400, seed=8))
    logits = fitted_logits(model, batch)
    recalibration = model.recalibration
    place = torch.arange(logits.shape[2], dtype=torch.float32).expand(len(batch), -1)
    before, after = (float(log_likelihood(each, batch).sum()) for each in (logits, recalibration(logits, place)))
    assert after > before - 3.0
    assert (recalibration.scale > 0).all()


def test_a_second_cohort_with_twice_the_risk_does_not_raise_the_first() -> None:
    """Its baseline is its own: the shipped baseline is that of the first cohort."""
    first = [row(None, 10.0 + number / 10, died=number % 5 == 0, pn=float(number % 2)) for number in range(100)]
    second = [row(1.0 + number / 50, 3.0, died=True, pn=float(number % 2)) for number in range(100)]
    contract = postoperative_contract()
    alone = fit(first, (), contract, _LITTLE, seed=1, calibrate=False).model
    beside = fit(first, second, contract, _LITTLE, seed=1, calibrate=False).model
    with torch.no_grad():
        death_alone, death_beside = (float(each(*batch_of(first).inputs)[2][:, 3].mean()) for each in (alone, beside))
    assert death_beside < death_alone + 0.1


def test_a_dropped_finding_looks_as_the_graph_would_see_it_masked() -> None:
    """Breach: an explanation by masking that asks the model about patients it never trained on."""
    contract, batch = postoperative_contract(), batch_of(_ROWS)
    engineering, covariates = engineered(contract, batch)
    always = Schedule(finding_dropout=1.0, noise=0.0)
    dropped = covariates.disturbed(1, always, torch.Generator().manual_seed(0))[0]
    masked = [torch.zeros_like(tensor) for tensor in batch.inputs[:4]]
    with torch.no_grad():
        torch.testing.assert_close(dropped, engineering(*masked))


def test_every_covariate_belongs_to_one_group() -> None:
    """Otherwise a finding could be dropped half, or never."""
    groups = Engineering(postoperative_contract(metastasis=True)).groups()
    assert (groups.sum(dim=0) == 1.0).all()


def test_swapped_rows_hold_whole_groups_of_real_rows() -> None:
    """No covariate is made up, and what belongs together stays together."""
    values = torch.arange(12.0).reshape(3, 4)
    groups = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    rows = swapped_rows(
        Covariates(values=values, groups=groups, absent=values[0]), 50, torch.Generator().manual_seed(0)
    )
    pairs = {tuple(line.tolist()) for line in values.reshape(3, 2, 2).reshape(6, 2)}
    assert {tuple(line.tolist()) for line in rows.reshape(-1, 2, 2).reshape(-1, 2)} <= pairs


def test_voices_are_averaged_on_the_log_cumulative_hazard() -> None:
    """Hazards 1 and 4 with equal shares give 2."""
    mean = mean_survival({"a": np.exp([[-1.0]]), "b": np.exp([[-4.0]])}, {"a": 1.0, "b": 1.0})
    np.testing.assert_allclose(mean, np.exp([[-2.0]]))


def test_a_heavier_penalty_draws_forecasts_together() -> None:
    """The one knob that matters most on this data does what it says."""
    contract, batch = postoperative_contract(), batch_of(_ROWS)
    _, covariates = engineered(contract, batch)
    spreads = []
    for weight in (30.0, 3000.0):
        penalty = Penalty(shared=weight, deviation=weight, bent=weight)
        network = fit_ensemble(
            covariates, batch, members=2, resampled=1, seed=1, penalty=penalty, schedule=Schedule(steps=80)
        )
        with torch.no_grad():
            spreads.append(float(network.training_logits(covariates.values).std(dim=1).mean()))
    assert spreads[1] < spreads[0] / 2.0
