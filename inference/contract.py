"""What goes into a model, what comes out, in which units and order: the one page both sides are held to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

DAYS_PER_QUARTER = 365.25 / 4


class ContractBreach(ValueError):
    """An input or output outside the contract; the message names the entry, never its value."""


class BundleRefused(ValueError):
    """A model bundle that is not what its manifest says: names the file or key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticInput:
    """One entry of the static vector.

    name: unique in the contract. feature: the timeline feature it is read from. unit: canonical UCUM for a number,
    None for a coded feature. levels: for a coded feature, the number each category becomes; a category absent here
    leaves the entry masked. required: without it the model must not be asked.
    """

    name: str
    feature: str
    unit: str | None = None
    levels: tuple[tuple[str, float], ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceInput:
    """One column of the sequence: a numeric feature measured over time, in `unit` (canonical UCUM)."""

    name: str
    feature: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """The grid an encoder reads a CT on, and how long its answer is.

    shape: cells along (superior, posterior, left), centred on the middle of the series. spacing_mm: in that order.
    window_hu: values beyond it count as its edge. embedding: E, the length of the encoder's answer.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    embedding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContract:
    """The fixed order, units and shapes of one model.

    S = len(static), F = len(sequence), T = sequence_length, H = horizon_quarters. image: None for a model that reads
    no images, which is the usual one.
    """

    model_name: str
    model_version: str
    static: tuple[StaticInput, ...]
    sequence: tuple[SequenceInput, ...]
    sequence_length: int
    horizon_quarters: int
    image: ImageInput | None = None

    @property
    def stated(self) -> dict[str, object]:
        """What the manifest says of the contract; a model without images does not mention them."""
        return {key: value for key, value in asdict(self).items() if key != "image" or value is not None}

    @property
    def schema_sha256(self) -> str:
        """SHA-256, hexadecimal, over the canonical JSON of everything but the model's version."""
        content = {key: value for key, value in self.stated.items() if key != "model_version"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelInput:
    """One patient at one landmark, in contract order. All arrays float32.

    static, static_mask: (S,). sequence, sequence_mask: (T, F), one row per day with a measurement, newest last.
    sequence_age_days: (T,), days before the landmark; empty rows come first and are all zero, mask zero.
    years_since_surgery: the postoperative clock at the landmark. A masked entry holds 0.0. image: (E,), the encoder's
    answer to the crop; None, the usual case, where there is no image or the model reads none.
    """

    static: NDArray[np.float32]
    static_mask: NDArray[np.float32]
    sequence: NDArray[np.float32]
    sequence_mask: NDArray[np.float32]
    sequence_age_days: NDArray[np.float32]
    years_since_surgery: float
    image: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForecastBand:
    """10 and 90 % of the curves that models fitted on resampled patients draw. low, high: (3, H), float32.

    Rows: recurrence, death without recurrence, death. The forecast lies inside. It holds what chance in the choice of
    training patients does, not what happens to one patient: no confidence interval of an outcome.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEffect:
    """How much higher the risks are than without one group of findings, fractions; below zero the group lowers them."""

    name: str
    recurrence: float
    death: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Effects of the known groups of findings at the end of one quarter, largest on recurrence first.

    recurrence_gap, death_gap: the sum of the effects minus what all findings together change; zero only where no two
    groups say the same.
    """

    quarter: int
    effects: tuple[InputEffect, ...]
    recurrence_gap: float
    death_gap: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelOutput:
    """Cumulative incidences by quarter after the landmark, fractions. Each (H,), float32.

    recurrence and death_without_recurrence exclude each other; death counts both ways to die. band and typicality say
    how far the forecast may be leaned on; None where a model does not tell. typicality: the fraction of training
    patients whose findings lie at least as far from the middle of them all; near 0, it has hardly seen such a patient.
    explanation: None where nobody asked for one.
    """

    recurrence: NDArray[np.float32]
    death_without_recurrence: NDArray[np.float32]
    death: NDArray[np.float32]
    band: ForecastBand | None = None
    typicality: float | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIdentity:
    """Which bundle spoke. digest: SHA-256 of its manifest, hexadecimal. training_data: `real` or `simulated`.

    opset: ONNX operator set of its graph. contract_digest: SHA-256 of its contract, hexadecimal. card: its model card,
    Markdown. None or empty where a bundle does not tell.
    """

    name: str
    version: str
    digest: str
    training_data: str
    opset: int | None = None
    contract_digest: str | None = None
    card: str = field(default="", repr=False)
