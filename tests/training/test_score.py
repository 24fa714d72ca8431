"""Scoring: tables without outcomes, one row per patient, the numbers of the service, and a reason where none."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from adapter.terminology import load_terminology
from inference.artifact import load_bundle, shipped_bundle
from inference.predictor import Predictor
from training.cohorts.hancock import RECORD_FILES, read_hancock
from training.cohorts.landmarks import landmark_rows
from training.cohorts.radcure import NOT_OPERATED
from training.score import COLUMNS, main


@pytest.fixture
def withheld(data_folder: Path, tmp_path: Path) -> Path:
    """The tables of HANCOCK as somebody who withholds the outcomes would hand them out."""
    folder = tmp_path / "withheld"
    folder.mkdir()
    for name in RECORD_FILES:
        shutil.copy(data_folder / "hancock" / name, folder / name)
    return folder


def _scores(folder: Path, out: Path, dataset: str = "hancock") -> list[dict[str, str]]:
    assert main(["--data", str(folder), "--dataset", dataset, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def _rewrite(path: Path, column: str, patient: str, value: str) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["patient_id"] == patient:
            row[column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_patients_without_outcomes_get_the_numbers_of_the_training_path(
    withheld: Path, data_folder: Path, tmp_path: Path
) -> None:
    """No targets.csv is there; each risk equals the prediction for the row that the trainer sees, to four decimals."""
    scores = {row["patient_id"]: row for row in _scores(withheld, tmp_path / "scores.csv")}
    predictor = Predictor(load_bundle(shipped_bundle()))
    rows = landmark_rows(read_hancock(data_folder / "hancock", load_terminology()), predictor.contract)[:40]
    for row in rows:
        output = predictor.predict(row.model_input)
        written = scores[row.patient_id.removeprefix("hancock-")]
        assert float(written["risk_recurrence_3y"]) == pytest.approx(float(output.recurrence[11]), abs=6e-5)
        assert float(written["risk_death_5y"]) == pytest.approx(float(output.death[19]), abs=6e-5)
        assert output.band is not None
        assert float(written["risk_death_1y_high"]) == pytest.approx(float(output.band.high[2, 3]), abs=6e-5)


def test_the_file_says_how_far_each_number_may_be_leaned_on(withheld: Path, tmp_path: Path) -> None:
    """Columns in a fixed order; every risk lies in its band, and grows with the years."""
    rows = _scores(withheld, tmp_path / "scores.csv")
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        if row["abstained"] == "true":
            assert row["reason"]
            assert not row["risk_death_1y"]
            continue
        assert row["abstained"] == "false"
        assert not row["reason"]
        for outcome in ("recurrence", "death"):
            risks = [float(row[f"risk_{outcome}_{year}y"]) for year in (1, 2, 3, 5)]
            assert risks == sorted(risks)
            low, high = (float(row[f"risk_{outcome}_3y_{end}"]) for end in ("low", "high"))
            assert low <= risks[2] <= high


def test_a_row_that_cannot_be_read_says_why_and_stops_nobody_else(withheld: Path, tmp_path: Path) -> None:
    """A code without a meaning and a word for a number: the column is named, all others are scored as before."""
    before = {row["patient_id"]: row for row in _scores(withheld, tmp_path / "before.csv")}
    _rewrite(withheld / "pathological.csv", "primary_tumor_site", "001", "99")
    _rewrite(withheld / "blood.csv", "Hemoglobin [Mass/volume] in Blood", "003", "low")
    after = {row["patient_id"]: row for row in _scores(withheld, tmp_path / "after.csv")}
    assert after["001"]["reason"] == "primary_tumor_site holds a code that is not known"
    assert "is not a number" in after["003"]["reason"]
    assert {key: row for key, row in after.items() if key not in {"001", "003"}} == {
        key: row for key, row in before.items() if key not in {"001", "003"}
    }


def test_a_missing_column_is_one_sentence(withheld: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table without a column of its layout is refused by the column's name; no file is left behind."""
    text = (withheld / "clinical.csv").read_text().replace("smoking_status", "smokes", 1)
    (withheld / "clinical.csv").write_text(text)
    assert main(["--data", str(withheld), "--dataset", "hancock", "--out", str(tmp_path / "scores.csv")]) == 1
    assert "no column 'smoking_status'" in capsys.readouterr().err
    assert not (tmp_path / "scores.csv").exists()


def test_tcga_is_read_from_its_patient_form(data_folder: Path, tmp_path: Path) -> None:
    """TCGA-HNSC from its patient form alone; barcodes come back as they are; distant metastasis is a reason."""
    folder = tmp_path / "tcga_hnsc"
    folder.mkdir()
    shutil.copy(data_folder / "tcga_hnsc" / "patient_hnsc.txt", folder)
    rows = _scores(tmp_path, tmp_path / "scores.csv", "tcga_hnsc")
    assert len(rows) == 319
    assert all(row["patient_id"].startswith("TCGA-") for row in rows)
    assert "distant metastasis" in {row["reason"] for row in rows}


def test_patients_who_were_never_operated_on_get_no_number(data_folder: Path, tmp_path: Path) -> None:
    """RADCURE had radiotherapy alone: a postoperative model has no landmark there, and says so for each."""
    rows = _scores(data_folder, tmp_path / "scores.csv", "radcure")
    assert len(rows) == 750
    assert {row["abstained"] for row in rows} == {"true"}
    assert {row["reason"] for row in rows} == {NOT_OPERATED}
