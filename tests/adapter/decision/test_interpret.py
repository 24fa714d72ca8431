"""Model output to forecast: the right quarter, float32 rounding put right, everything else refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapter.domain.landmark import Landmark
from adapter.domain.risk import Outcome
from adapter.errors import InvalidForecast
from inference.contract import ForecastBand, ModelOutput
from tests.fakes.postoperative import LANDMARK, curves, forecast, timeline


def test_horizons_in_months_are_read_at_their_quarter() -> None:
    """Two years are the eighth quarter: 0.4 after five years on a straight curve is 0.16 after two."""
    risk = forecast(timeline(), output=curves(recurrence=0.4))
    assert risk.probability(Outcome.RECURRENCE, 24) == pytest.approx(0.16, abs=1e-6)
    assert risk.probability(Outcome.RECURRENCE, 60) == pytest.approx(0.4, abs=1e-6)


def _with(curve: NDArray[np.float64]) -> ModelOutput:
    return replace(curves(), recurrence=curve.astype(np.float32))


def test_float32_rounding_is_put_right() -> None:
    """A curve that dips or leaves [0, 1] by less than 1e-6 is a curve."""
    curve = np.linspace(0.05, 0.4, 20)
    curve[0], curve[8] = -5e-7, curve[7] - 5e-7
    risk = forecast(timeline(), output=_with(curve))
    assert risk.probability(Outcome.RECURRENCE, 12) >= 0.0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.01, 1.01])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    """NaN, infinity and numbers outside [0, 1] never reach a clinician."""
    curve = np.linspace(0.05, 0.4, 20)
    curve[10] = wrong
    with pytest.raises(InvalidForecast, match="recurrence"):
        forecast(timeline(), output=_with(curve))


def test_a_falling_curve_is_refused() -> None:
    """A cumulative incidence that falls between two horizons is refused even where the horizons rise."""
    curve = np.linspace(0.05, 0.4, 20)
    curve[5] = 0.0
    with pytest.raises(InvalidForecast, match="falls"):
        forecast(timeline(), output=_with(curve))


def test_a_short_curve_is_refused() -> None:
    """A curve with fewer quarters than the contract is not read at all."""
    with pytest.raises(InvalidForecast, match="20 quarters"):
        forecast(timeline(), output=_with(np.linspace(0.0, 0.4, 12)))


@pytest.mark.parametrize("horizons", [(7,), (12, 72)])
def test_a_horizon_the_model_does_not_have_is_refused(horizons: tuple[int, ...]) -> None:
    """Nothing is interpolated or extrapolated."""
    patient = replace(timeline(), landmark=Landmark(time=LANDMARK, horizons=horizons))
    with pytest.raises(InvalidForecast, match="months is not a horizon"):
        forecast(patient)


def test_the_basis_holds_what_feeds_the_model_and_nothing_it_did_not_read() -> None:
    """The pathology of the contract is cited with its version, a weight the contract does not ask for is not."""
    basis = {str(source) for source in forecast(timeline()).basis}
    assert {"Patient/p1/_history/3", "Procedure/surgery/_history/1", "Observation/pT/_history/1"} <= basis
    assert "Observation/weight/_history/1" not in basis


@given(st.lists(st.floats(0.0, 0.015625, width=32), min_size=60, max_size=60))
def test_every_hazard_curve_is_readable(hazards: list[float]) -> None:
    """Cumulated hazards of any shape come through float32 as a coherent forecast."""
    recurrence, without, after = (np.cumsum(np.array(hazards[i::3], dtype=np.float32)) for i in range(3))
    output = ModelOutput(recurrence=recurrence, death_without_recurrence=without, death=without + after)
    risk = forecast(timeline(), output=output)
    assert 0.0 <= risk.probability(Outcome.DEATH, 60) <= 1.0


def _banded(low: float, high: float) -> ModelOutput:
    """Straight curves inside a band that is a fraction lower and higher."""
    straight = curves()
    stacked = np.stack([straight.recurrence, straight.death_without_recurrence, straight.death])
    band = ForecastBand(low=stacked * np.float32(low), high=stacked * np.float32(high))
    return replace(straight, band=band, typicality=0.4)


def test_the_band_and_the_typicality_come_along() -> None:
    """Read at the same quarter as the forecast: 0.4 after five years, 10 % either way."""
    risk = forecast(timeline(), output=_banded(0.9, 1.1))
    last = next(entry for entry in risk.incidences if (entry.outcome, entry.horizon) == (Outcome.RECURRENCE, 60))
    assert last.low == pytest.approx(0.36, abs=1e-6)
    assert last.high == pytest.approx(0.44, abs=1e-6)
    assert risk.typicality == 0.4


def test_a_model_that_tells_no_band_gives_none() -> None:
    """Nothing is made up for it."""
    risk = forecast(timeline())
    assert {(entry.low, entry.high) for entry in risk.incidences} == {(None, None)}
    assert risk.typicality is None


def test_a_band_of_no_width_survives_rounding() -> None:
    """A bound less than 1e-6 on the wrong side is the forecast itself."""
    risk = forecast(timeline(), output=_banded(1.0 + 1e-6, 1.0 - 1e-6))
    assert all(entry.low == entry.probability == entry.high for entry in risk.incidences)


@pytest.mark.parametrize(("low", "high"), [(1.1, 1.2), (0.8, 0.9), (float("nan"), 1.1), (-1.0, 1.1)])
def test_a_forecast_outside_its_band_is_refused(low: float, high: float) -> None:
    """So is a bound that is no probability."""
    with pytest.raises(InvalidForecast, match=r"outside its band|bound that is not"):
        forecast(timeline(), output=_banded(low, high))
