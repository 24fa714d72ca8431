"""A forecast that contradicts itself cannot be built."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.landmark import Landmark
from adapter.domain.risk import CumulativeIncidence, LandmarkKind, ModelIdentity, Outcome, RiskForecast
from adapter.errors import InvalidForecast

_LANDMARK = Landmark(time=datetime(2026, 1, 1, tzinfo=UTC), horizons=(12, 24))
_SOUND: dict[Outcome, tuple[float, ...]] = {
    Outcome.RECURRENCE: (0.1, 0.2),
    Outcome.DEATH_WITHOUT_RECURRENCE: (0.05, 0.1),
    Outcome.DEATH: (0.06, 0.2),
}


def _forecast(curves: dict[Outcome, tuple[float, ...]]) -> RiskForecast:
    return RiskForecast(
        patient_id=PatientId("p1"),
        landmark=_LANDMARK,
        kind=LandmarkKind.DECISION,
        incidences=tuple(
            CumulativeIncidence(outcome=outcome, horizon=horizon, probability=probability)
            for outcome, curve in curves.items()
            for horizon, probability in zip(_LANDMARK.horizons, curve, strict=False)
        ),
        model=ModelIdentity(name="m", version="1", digest="0" * 64, training_data="simulated"),
        basis=(),
        missing=(),
    )


def test_a_coherent_forecast_answers_by_outcome_and_horizon() -> None:
    """The number that was put in comes out."""
    assert _forecast(_SOUND).probability(Outcome.RECURRENCE, 24) == 0.2


@pytest.mark.fault("F-29")
@pytest.mark.parametrize(
    ("outcome", "curve", "complaint"),
    [
        (Outcome.RECURRENCE, (0.3, 0.2), "falls"),
        (Outcome.RECURRENCE, (0.1,), "not given at every horizon"),
        (Outcome.RECURRENCE, (0.1, 0.95), "exceed certainty"),
        (Outcome.DEATH, (0.01, 0.2), "rarer"),
        (Outcome.DEATH, (float("nan"), 0.2), "not a probability"),
        (Outcome.DEATH, (0.1, 1.2), "not a probability"),
    ],
)
def test_a_forecast_that_contradicts_itself_is_refused(
    outcome: Outcome, curve: tuple[float, ...], complaint: str
) -> None:
    """F-29: not finite, out of range, falling, incomplete, or more than certain."""
    with pytest.raises(InvalidForecast, match=complaint):
        _forecast({**_SOUND, outcome: curve})


def test_a_landmark_needs_rising_horizons_and_an_offset() -> None:
    """A landmark that could be read two ways cannot be built."""
    with pytest.raises(ValueError, match="rise"):
        Landmark(time=_LANDMARK.time, horizons=(24, 12))
    with pytest.raises(ValueError, match="offset"):
        Landmark(time=datetime(2026, 1, 1))
