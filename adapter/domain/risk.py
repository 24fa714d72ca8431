"""Whether a patient is at risk, and the forecast if so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.landmark import Landmark
from adapter.domain.record import ProcedureEvent
from adapter.errors import InvalidForecast


class LandmarkKind(Enum):
    """Which question the landmark answers."""

    DECISION = "decision"
    FOLLOW_UP = "follow-up"


class SkipReason(Enum):
    """Why a patient is not ours to assess; each has one plain sentence in the service's output."""

    NO_PRIMARY_CANCER = "no-head-and-neck-squamous-cell-carcinoma"
    NO_DEFINITIVE_SURGERY = "no-definitive-surgery"
    SURGERY_DATE_UNKNOWN = "surgery-date-unknown"
    PATHOLOGY_PENDING = "pathology-pending"
    ALREADY_RECURRED = "already-recurred"
    DECEASED = "deceased"
    UNDER_AGE = "under-age"
    DISTANT_METASTASIS = "distant-metastasis"
    BEYOND_HORIZON = "beyond-follow-up-horizon"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRisk:
    """The patient is disease-free after curative surgery and the landmark stands."""

    kind: LandmarkKind
    landmark: Landmark
    index_surgery: ProcedureEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAtRisk:
    """The patient is not to be assessed. detail: ids and codes only."""

    reason: SkipReason
    detail: str = ""


class Outcome(Enum):
    """What may happen. The first two exclude each other; death counts whether or not recurrence came before."""

    RECURRENCE = "recurrence"
    DEATH_WITHOUT_RECURRENCE = "death-without-recurrence"
    DEATH = "death"


@dataclass(frozen=True, slots=True, kw_only=True)
class CumulativeIncidence:
    """The probability, as a fraction, that an outcome has happened by `horizon` months after the landmark.

    low, high: where 10 and 90 % of models fitted on resampled patients put it; None where the model does not tell.
    """

    outcome: Outcome
    horizon: int
    probability: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Raise InvalidForecast unless the probability is finite, within [0, 1], and inside its band."""
        if not math.isfinite(self.probability) or not 0.0 <= self.probability <= 1.0:
            raise InvalidForecast(f"{self.outcome.value} at {self.horizon} months is not a probability")
        if self.low is None and self.high is None:
            return
        if self.low is None or self.high is None or not 0.0 <= self.low <= self.probability <= self.high <= 1.0:
            raise InvalidForecast(f"{self.outcome.value} at {self.horizon} months lies outside its band")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model spoke. training_data: `real` or `simulated`; digest: SHA-256 of the manifest, hexadecimal.

    opset: of its ONNX graph. contract_digest: SHA-256 over what it takes in, hexadecimal. card: the model card,
    Markdown. What a bundle does not tell is None or empty.
    """

    name: str
    version: str
    digest: str
    training_data: str
    opset: int | None = None
    contract_digest: str | None = None
    card: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A group of findings, and how much higher they make the risks than not knowing them, fractions, -1 to 1."""

    name: str
    recurrence: float
    death: float

    def __post_init__(self) -> None:
        """Raise InvalidForecast for what is no difference of two probabilities."""
        if not all(math.isfinite(change) and abs(change) <= 1.0 for change in (self.recurrence, self.death)):
            raise InvalidForecast(f"{self.name} changes a risk by what is no difference of probabilities")

    def change(self, outcome: Outcome) -> float:
        """Of one outcome. Raises KeyError for death without recurrence, which is not explained."""
        return {Outcome.RECURRENCE: self.recurrence, Outcome.DEATH: self.death}[outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drivers:
    """What drove the forecast at `horizon` months, largest change of recurrence first. It explains no cause.

    together_recurrence, together_death: what all findings change at once. The single changes need not add up to it,
    for findings overlap.
    """

    horizon: int
    entries: tuple[Driver, ...]
    together_recurrence: float
    together_death: float

    def together(self, outcome: Outcome) -> float:
        """Of one outcome. Raises KeyError for death without recurrence."""
        return {Outcome.RECURRENCE: self.together_recurrence, Outcome.DEATH: self.together_death}[outcome]

    def largest(self, outcome: Outcome) -> tuple[Driver, ...]:
        """Largest change of this outcome first; equal ones by name."""
        return tuple(sorted(self.entries, key=lambda entry: (-abs(entry.change(outcome)), entry.name)))


_TOLERANCE = 1e-6  # float32 sums of up to twenty hazards


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskForecast:
    """Cumulative incidences at the landmark's horizons, coherent by construction.

    basis: every resource version the model input rests on. missing: contract features that were not known. typicality:
    the fraction of training patients whose findings are at least as unusual; None where the model does not tell.
    drivers: None where the model was not asked.
    """

    patient_id: PatientId
    landmark: Landmark
    kind: LandmarkKind
    incidences: tuple[CumulativeIncidence, ...]
    model: ModelIdentity
    basis: tuple[ResourceVersion, ...]
    missing: tuple[str, ...]
    typicality: float | None = None
    drivers: Drivers | None = None

    def __post_init__(self) -> None:
        """Raise InvalidForecast when a curve falls, a horizon is absent, or exclusive outcomes exceed certainty."""
        if self.typicality is not None and not 0.0 <= self.typicality <= 1.0:
            raise InvalidForecast("typicality is not a fraction")
        for outcome in Outcome:
            curve = [entry for entry in self.incidences if entry.outcome is outcome]
            if tuple(entry.horizon for entry in curve) != self.landmark.horizons:
                raise InvalidForecast(f"{outcome.value} is not given at every horizon")
            if any(later.probability < earlier.probability - _TOLERANCE for earlier, later in _pairs(curve)):
                raise InvalidForecast(f"{outcome.value} falls with the horizon")
        for horizon in self.landmark.horizons:
            recurrence = self.probability(Outcome.RECURRENCE, horizon)
            without = self.probability(Outcome.DEATH_WITHOUT_RECURRENCE, horizon)
            if recurrence + without > 1.0 + _TOLERANCE:
                raise InvalidForecast(f"exclusive outcomes exceed certainty at {horizon} months")
            if self.probability(Outcome.DEATH, horizon) < without - _TOLERANCE:
                raise InvalidForecast(f"death is rarer than death without recurrence at {horizon} months")

    def probability(self, outcome: Outcome, horizon: int) -> float:
        """The fraction for one outcome and horizon. Raises KeyError when it was not forecast."""
        for entry in self.incidences:
            if entry.outcome is outcome and entry.horizon == horizon:
                return entry.probability
        raise KeyError((outcome, horizon))


def _pairs(curve: list[CumulativeIncidence]) -> Iterator[tuple[CumulativeIncidence, CumulativeIncidence]]:
    return pairwise(curve)
