"""Landmark rows of nobody: relapse follows pN, everything else is drawn."""

from __future__ import annotations

import numpy as np

from inference.contract import DAYS_PER_QUARTER, ModelContract, ModelInput
from training.cohorts.landmarks import LandmarkRow
from training.postoperative_contract import postoperative_contract


def row(
    illness_quarters: float | None,
    last_quarters: float,
    *,
    died: bool,
    pn: float = 0.0,
    age: float | None = None,
    contract: ModelContract | None = None,
    name: str = "made-up",
) -> LandmarkRow:
    """One patient at surgery about whom pN is known, and age where it is given."""
    asked = contract or postoperative_contract()
    names = [entry.name for entry in asked.static]
    static, mask = np.zeros(len(names), np.float32), np.zeros(len(names), np.float32)
    for entry, value in (("pN", pn), ("age_at_surgery", age)):
        if value is not None:
            static[names.index(entry)], mask[names.index(entry)] = value, 1.0
    table = np.zeros((asked.sequence_length, len(asked.sequence)), np.float32)
    return LandmarkRow(
        patient_id=name,
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


def cohort(count: int, seed: int = 5) -> tuple[LandmarkRow, ...]:
    """Patients of whom those with pN2 relapse four times as often; a third of the relapsed die of it, some without."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        pn = float(draw.choice([0.0, 2.0]))
        relapse = float(draw.exponential(12.0 if pn else 48.0)) + 0.1
        end = float(draw.uniform(4.0, 26.0))
        dies_before = draw.random() < 0.1
        ill = relapse < end
        rows.append(
            row(
                relapse if ill else None,
                end,
                died=bool(draw.random() < 0.5) if ill else bool(dies_before),
                pn=pn,
                age=float(draw.uniform(40.0, 85.0)),
                name=f"made-up-{number}",
            )
        )
    return tuple(rows)
