"""Model output -> risk forecast: quarters become months, and what is no probability curve is refused."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from adapter.domain.ids import ResourceVersion
from adapter.domain.landmark import Landmark
from adapter.domain.risk import AtRisk, CumulativeIncidence, Driver, Drivers, ModelIdentity, Outcome, RiskForecast
from adapter.domain.timeline import Timeline
from adapter.errors import InvalidForecast
from inference.contract import BundleIdentity, Explanation, ModelContract, ModelOutput

_MONTHS_PER_QUARTER = 3
_TOLERANCE = 1e-6  # float32 sums of up to twenty hazards
_Bounds: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]


def interpret(
    output: ModelOutput,
    contract: ModelContract,
    *,
    identity: BundleIdentity,
    at_risk: AtRisk,
    timeline: Timeline,
    missing: tuple[str, ...],
) -> RiskForecast:
    """Read the curves at the landmark's horizons.

    Within 1e-6 of [0, 1], and of the curve's own rise, rounding is put right; anything further is refused.
    missing: contract features that were not known. Raises InvalidForecast naming the curve, never its values.
    """
    landmark = at_risk.landmark
    curves = (
        (Outcome.RECURRENCE, output.recurrence),
        (Outcome.DEATH_WITHOUT_RECURRENCE, output.death_without_recurrence),
        (Outcome.DEATH, output.death),
    )
    return RiskForecast(
        patient_id=timeline.person.patient_id,
        landmark=landmark,
        kind=at_risk.kind,
        incidences=tuple(
            incidence
            for row, (outcome, curve) in enumerate(curves)
            for incidence in _read_curve(outcome, curve, _bounds(output, row), landmark, contract.horizon_quarters)
        ),
        model=ModelIdentity(
            name=identity.name,
            version=identity.version,
            digest=identity.digest,
            training_data=identity.training_data,
            opset=identity.opset,
            contract_digest=identity.contract_digest,
            card=identity.card,
        ),
        basis=_basis(timeline, contract),
        missing=tuple(sorted(set(missing))),
        typicality=output.typicality,
        drivers=None if output.explanation is None else _drivers(output.explanation),
    )


def _drivers(explanation: Explanation) -> Drivers:
    """The model's explanation in months; the whole is the sum of its effects less their gap."""
    entries = tuple(
        Driver(name=effect.name, recurrence=effect.recurrence, death=effect.death) for effect in explanation.effects
    )
    return Drivers(
        horizon=explanation.quarter * _MONTHS_PER_QUARTER,
        entries=entries,
        together_recurrence=sum(entry.recurrence for entry in entries) - explanation.recurrence_gap,
        together_death=sum(entry.death for entry in entries) - explanation.death_gap,
    )


def _bounds(output: ModelOutput, row: int) -> _Bounds | None:
    """Low and high of one outcome, (H,) each."""
    return None if output.band is None else (output.band.low[row], output.band.high[row])


def _read_curve(
    outcome: Outcome, curve: NDArray[np.float32], bounds: _Bounds | None, landmark: Landmark, quarters: int
) -> Iterable[CumulativeIncidence]:
    """Pick the horizons out of the whole curve. curve: (H,), fraction at the end of each quarter."""
    if curve.shape != (quarters,):
        raise InvalidForecast(f"{outcome.value} does not have {quarters} quarters")
    rising = _rising(outcome, [float(value) for value in curve])
    for horizon in landmark.horizons:
        quarter, rest = divmod(horizon, _MONTHS_PER_QUARTER)
        if rest or not 1 <= quarter <= quarters:
            raise InvalidForecast(f"{horizon} months is not a horizon of this model")
        probability = rising[quarter - 1]
        if bounds is None:
            yield CumulativeIncidence(outcome=outcome, horizon=horizon, probability=probability)
            continue
        low, high = (_bound(outcome, float(bound[quarter - 1]), probability) for bound in bounds)
        yield CumulativeIncidence(outcome=outcome, horizon=horizon, probability=probability, low=low, high=high)


def _bound(outcome: Outcome, value: float, probability: float) -> float:
    """A bound within [0, 1], rounding put right; InvalidForecast for what is more than rounding."""
    if not math.isfinite(value) or not -_TOLERANCE <= value <= 1.0 + _TOLERANCE:
        raise InvalidForecast(f"{outcome.value} has a bound that is not a probability")
    return probability if abs(value - probability) <= _TOLERANCE else min(max(value, 0.0), 1.0)


def _rising(outcome: Outcome, curve: list[float]) -> list[float]:
    """Put float32 rounding right, quarter by quarter; refuse what is more than rounding."""
    so_far = 0.0
    rising = []
    for value in curve:
        if not math.isfinite(value) or not -_TOLERANCE <= value <= 1.0 + _TOLERANCE:
            raise InvalidForecast(f"{outcome.value} holds something that is not a probability")
        if value < so_far - _TOLERANCE:
            raise InvalidForecast(f"{outcome.value} falls with time")
        so_far = min(max(value, so_far), 1.0)
        rising.append(so_far)
    return rising


def _basis(timeline: Timeline, contract: ModelContract) -> tuple[ResourceVersion, ...]:
    """Return the versions behind the model input: person, surgery, and every measurement of a contract feature.

    Procedures, diagnoses, medications and imaging are all cited: they decide standing, site and rules.
    """
    features = {entry.feature for entry in contract.static} | {entry.feature for entry in contract.sequence}
    sources = {timeline.person.source, timeline.index_surgery.source}
    sources |= {entry.source for entry in timeline.measurements if entry.feature in features}
    sources |= {entry.source for entry in timeline.procedures}
    sources |= {entry.source for entry in timeline.diagnoses}
    sources |= {entry.source for entry in timeline.medications}
    sources |= {entry.source for entry in timeline.imaging}
    return tuple(sorted(sources))
