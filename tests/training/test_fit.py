"""Training and evaluation refuse in one sentence what they cannot work with, and run through on the public data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from inference.artifact import load_bundle  # after the skip
from inference.predictor import Predictor
from training.figure_captions import FIGURES

_ROOT = Path(__file__).parents[2]


def _run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """No traceback: the folder is named, and nothing is written."""
    done = _run("training.fit", "--data", tmp_path, "--out", tmp_path / "bundle", "--docs", tmp_path / "docs")
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path} has no folder hancock: --data names the folder of the research data\n"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is there and empty: the first table that is missing is named."""
    (tmp_path / "hancock").mkdir()
    done = _run("training.evaluate", "--data", tmp_path, "--docs", tmp_path / "docs", "--work", tmp_path / "work")
    assert done.returncode == 1
    assert "has no file clinical.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_quick_trainings_give_the_same_bundle(data_folder: Path, tmp_path: Path) -> None:
    """Cohorts, fit and export in one go, every file to the last bit; the service loads it, and it says it is quick."""
    for name in ("first", "second"):
        folder = tmp_path / name
        done = _run("training.fit", "--data", data_folder, "--out", folder, "--docs", tmp_path / "docs", "--quick")
        assert done.returncode == 0, done.stderr[-2000:]
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    bundle = load_bundle(tmp_path / "first")
    assert Predictor(bundle).identity.training_data == "real"
    assert str(bundle.about["effort"]).startswith("quick")
    assert "not measured" in (tmp_path / "docs" / "model_card.md").read_text()


@pytest.mark.timeout(900)  # twice six studies, each in processes of its own
def test_a_quick_evaluation_goes_on_where_it_stopped(data_folder: Path, tmp_path: Path) -> None:
    """Every fold is kept: with one of them gone, only that one is computed again, and the page is the same."""
    arguments = ("--data", data_folder, "--docs", tmp_path / "docs", "--work", tmp_path / "work", "--quick")
    done = _run("training.evaluate", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    page = (tmp_path / "docs" / "evaluation.md").read_text()
    next((tmp_path / "work").glob("landmark-[0-9a-f]*-00.npz")).unlink()
    again = _run("training.evaluate", *arguments)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "landmark: 4 of 5 folds are there" in again.stderr
    assert "landmark xgboost: 5 of 5 folds are there" in again.stderr
    assert "published: 5 of 5 folds are there" in again.stderr
    assert (tmp_path / "docs" / "evaluation.md").read_text() == page
    numbers = json.loads((tmp_path / "docs" / "evaluation.json").read_text())
    assert 0.6 < numbers["OS harrell"] < 0.8
    assert (tmp_path / "docs" / "evaluation.html").stat().st_size > 100_000
    for name in FIGURES:
        assert (tmp_path / "docs" / f"evaluation-{name}.svg").stat().st_size > 1000
