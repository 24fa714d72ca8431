"""Covariates: what training never saw vary says nothing about the next patient."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from tests.training.patients import cohort, row  # noqa: E402  # after the skip
from training.engineering import Engineering  # noqa: E402
from training.likelihood import batch_of  # noqa: E402
from training.postoperative_contract import postoperative_contract  # noqa: E402


def _asked(**findings: float) -> dict[str, float]:
    """Covariates of one more patient with these findings, under an engineering fitted on pN and age alone."""
    contract = postoperative_contract()
    engineering = Engineering(contract)
    engineering.fit(*batch_of(cohort(40)).inputs[:4])
    patient = row(None, 4.0, died=False, pn=2.0, age=60.0)
    names = [entry.name for entry in contract.static]
    for name, value in findings.items():
        patient.model_input.static[names.index(name)] = value
        patient.model_input.static_mask[names.index(name)] = 1.0
    values = engineering(*batch_of([patient]).inputs[:4])[0]
    return dict(zip(engineering.names, values.tolist(), strict=True))


def test_a_finding_that_no_training_patient_had_recorded_changes_nothing() -> None:
    """Depth and margin are in nobody's training row: with them or without, the covariates are the same.

    Breach: divided by the smallest scale, the first such patient stood six deviations out in what nothing was known of.
    """
    assert _asked(depth_of_invasion=12.0, margin=1.0, lvi=1.0)["margin"] == 0.0
    assert _asked(depth_of_invasion=12.0, margin=1.0, lvi=1.0)["lvi"] == 0.0


def test_a_finding_that_was_the_same_in_all_changes_nothing() -> None:
    """Depth was never known in training, so that its flag was always set; who has a depth is not far out for that."""
    assert _asked()["depth_unknown"] == 0.0
    assert _asked(depth_of_invasion=12.0)["depth_unknown"] == 0.0


def test_what_varied_in_training_is_scaled_as_before() -> None:
    """Half of the training patients have pN2: one more stands one deviation above the mean."""
    assert _asked()["pN_2_or_more"] == pytest.approx(1.0, abs=0.35)
