"""RADCURE study: columns are finite where known, the extra rows are never tested, predictions cover the test."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.cohorts.radcure import Part, read_development, read_test_inputs
from training.studies.effort import Effort
from training.studies.radcure import _cross_validate, _rows, write_predictions
from training.studies.radcure_covariates import engineered_columns, plain_columns


def test_both_files_have_the_same_columns(data_folder: Path) -> None:
    """Free codes of the test era fall into columns that training knows; none is infinite or all unknown."""
    for columns in (plain_columns, engineered_columns):
        development = columns(read_development(data_folder / "radcure"))
        tested = columns(read_test_inputs(data_folder / "radcure"))
        assert development.shape[1] == tested.shape[1]
        assert not np.isinf(development).any()
        assert np.isfinite(development).any(axis=0).all()


def test_the_extra_rows_train_and_are_never_tested(data_folder: Path) -> None:
    """Held-out forecasts exist for the challenge rows only, one each, as probabilities."""
    patients = read_development(data_folder / "radcure")[::8]
    tested = np.array([patient.part is Part.CHALLENGE_TRAINING for patient in patients])
    scores, held_out = _cross_validate(_rows(patients), tested, Effort.QUICK)
    assert len(held_out) == tested.sum() < len(patients)
    assert ((held_out > 0.0) & (held_out < 1.0)).all()
    assert {len(values) for values in scores.area.values()} == {5}


def test_predictions_cover_the_official_test(data_folder: Path, tmp_path: Path) -> None:
    """750 rows in the order of the inputs, risk_2y a probability, risk_score rising with it almost everywhere."""
    write_predictions(data_folder, tmp_path / "p.csv", Effort.QUICK)
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["patient_id", "risk_2y", "risk_score"]
    inputs = read_test_inputs(data_folder / "radcure")
    assert [row["patient_id"] for row in rows] == [patient.patient_id for patient in inputs]
    risks = np.array([float(row["risk_2y"]) for row in rows])
    assert ((risks > 0.0) & (risks < 1.0)).all()
    assert np.corrcoef(risks, [float(row["risk_score"]) for row in rows])[0, 1] > 0.8
