"""`python -m training.fit` refuses in one sentence what it cannot work with; the shipped bundle can be made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from inference.artifact import shipped_bundle  # after the skip

_ROOT = Path(__file__).parents[2]


def _fit(data: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["--data", str(data), "--out", str(folder / "bundle"), "--docs", str(folder / "docs")]
    command = [sys.executable, "-m", "training.fit", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """No traceback: the folder is named, and nothing is written."""
    done = _fit(tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path} has no folder hancock: --data names the folder of the research data\n"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is there and empty: the first table that is missing is named."""
    (tmp_path / "hancock").mkdir()
    done = _fit(tmp_path, tmp_path)
    assert done.returncode == 1
    assert "has no file clinical.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_again_gives_the_shipped_bundle(data_folder: Path, tmp_path: Path) -> None:
    """Cohorts, fit, evaluation and export in one go: every file of the bundle and both pages, to the last bit."""
    done = _fit(data_folder, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "fold 25 of 25" in done.stderr
    for path in sorted(shipped_bundle().iterdir()):
        assert path.read_bytes() == (tmp_path / "bundle" / path.name).read_bytes(), path.name
    for name in ("evaluation.md", "model_card.md"):
        assert (_ROOT / "docs" / name).read_bytes() == (tmp_path / "docs" / name).read_bytes(), name
