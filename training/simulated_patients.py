"""Simulated patients: a ball planted in their CT decides when the disease returns, their findings decide nothing.

Simulated from end to end: what a model learns here is what was planted, and nothing about any patient. The hazards are
round figures: recurrence by a baseline times exp(EFFECT * burden), death without and after recurrence at fixed rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from adapter.domain.ids import SeriesUid
from adapter.domain.imaging import Volume
from adapter.features.crop import crop_volume
from adapter.sandbox.anatomy import SERIES_SHAPE, SERIES_SPACING_MM, burden, draw_neck, planted_ball
from inference.contract import DAYS_PER_QUARTER, ImageInput, ModelContract, ModelInput
from training.cohorts.landmarks import LandmarkRow
from training.made_up import made_up_inputs
from training.postoperative_contract import postoperative_contract

NAME, VERSION = "postoperative-simulated-image", "0.1.0"
IMAGE = ImageInput(shape=(24, 40, 40), spacing_mm=(6.0, 6.0, 6.0), window_hu=(-200.0, 300.0), embedding=8)
EFFECT = 3.0  # of the planted burden, -1 to 1, on the log hazard of recurrence
_RECURRENCE, _DEATH, _AFTER = 0.05, 0.012, 0.12  # hazards by quarter
_FOLLOW_UP = (8.0, 24.0)  # quarters
_SLICES = (60, 91)
_FIRST_SEED = 1 << 40  # beyond every seed of the pretend hospital: its patients never train


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedPatients:
    """N simulated patients. crops: (N, 1, slices, rows, columns), float32 HU. burden: (N,), the planted truth."""

    rows: tuple[LandmarkRow, ...]
    crops: torch.Tensor
    burden: NDArray[np.float64]


def simulated_contract() -> ModelContract:
    """The contract of the shipped model under another name, with an image input."""
    return replace(postoperative_contract(), model_name=NAME, model_version=VERSION, image=IMAGE)


def simulate_patients(
    count: int, first: int, crop: Callable[[int], NDArray[np.float32]] | None = None
) -> SimulatedPatients:
    """Patients `first`, `first + 1`, …: each has one ball, one CT and one course, whoever else is drawn.

    crop: what is drawn of a CT by its seed; None for the crop that serves.
    """
    inputs = made_up_inputs(simulated_contract(), rows=count, seed=_FIRST_SEED + first)
    drawn = [(crop or simulated_crop)(_FIRST_SEED + number) for number in range(first, first + count)]
    numbers = range(first, first + count)
    truth = np.array([burden(planted_ball(_FIRST_SEED + number)) for number in numbers])
    return SimulatedPatients(
        rows=tuple(
            _course(number, float(planted), _model_input(inputs, place))
            for place, (number, planted) in enumerate(zip(numbers, truth, strict=True))
        ),
        crops=torch.from_numpy(np.stack(drawn)).unsqueeze(1),
        burden=truth,
    )


def simulated_crop(seed: int) -> NDArray[np.float32]:
    """What the encoder gets of a CT as the pretend archive draws it, by the code that serves."""
    chance = np.random.default_rng([seed, 1, 1])
    slices = int(np.random.default_rng([seed, 2]).integers(*_SLICES))
    shape = (slices, *SERIES_SHAPE)
    voxels = draw_neck(shape, SERIES_SPACING_MM, blob=planted_ball(seed), chance=chance)
    volume = Volume(
        series_uid=SeriesUid("2.25.1"),
        modality="CT",
        voxels=voxels.astype(np.float32),
        spacing_mm=SERIES_SPACING_MM,
        origin_mm=(0.0, 0.0, 0.0),
        direction=np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    )
    return crop_volume(volume, shape=IMAGE.shape, spacing_mm=IMAGE.spacing_mm, window_hu=IMAGE.window_hu)


def _model_input(inputs: tuple[torch.Tensor, ...], place: int) -> ModelInput:
    static, static_mask, sequence, sequence_mask, _ = (tensor[place].numpy() for tensor in inputs)
    return ModelInput(
        static=static,
        static_mask=static_mask,
        sequence=sequence,
        sequence_mask=sequence_mask,
        sequence_age_days=np.zeros(len(sequence), dtype=np.float32),
        years_since_surgery=0.0,
    )


def _course(number: int, planted: float, model_input: ModelInput) -> LandmarkRow:
    """Exponential times, in quarters from the landmark."""
    chance = np.random.default_rng([_FIRST_SEED + number, 3])
    relapse = chance.exponential(1.0 / (_RECURRENCE * np.exp(EFFECT * planted)))
    death, after, end = chance.exponential(1.0 / _DEATH), chance.exponential(1.0 / _AFTER), chance.uniform(*_FOLLOW_UP)
    ill = relapse < min(death, end)
    dies = relapse + after if ill else death
    return LandmarkRow(
        patient_id=f"simulated-{number}",
        model_input=model_input,
        illness_days=relapse * DAYS_PER_QUARTER if ill else None,
        last_days=min(dies, end) * DAYS_PER_QUARTER,
        died=bool(dies < end),
    )
