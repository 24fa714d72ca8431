"""The commands that start training: what they need is named, what they get is passed on, the status comes back."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from adapter.errors import BadSettings
from adapter.studio import start_scoring, start_training
from tests.fakes.command import run

_ROOT = Path(__file__).parents[2]


def _interpreter(folder: Path, body: str) -> Path:
    """A program in the place of an interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_an_environment_without_torch_is_named(tmp_path: Path) -> None:
    """No traceback of an import: what is missing stands there, and how to get it; nothing was started."""
    python = _interpreter(tmp_path, "echo torch sksurv")
    with pytest.raises(BadSettings, match=r"lacks torch, sksurv.*make train-setup"):
        start_training("training.fit", [], python)


def test_what_is_no_interpreter_is_named(tmp_path: Path) -> None:
    """A wrong path is one sentence with the option in it."""
    with pytest.raises(BadSettings, match="--python"):
        start_training("training.fit", [], tmp_path / "nothing")


def test_the_work_is_started_with_its_arguments_and_its_status_comes_back(tmp_path: Path) -> None:
    """The module and every argument reach the training interpreter; 3 stays 3."""
    said = tmp_path / "said"
    python = _interpreter(tmp_path, f'[ "$1" = -c ] && exit 0\necho "$@" > {said}\nexit 3')
    assert start_training("training.fit", ["--data", "folder", "--quick"], python) == 3
    assert said.read_text() == "-m training.fit --data folder --quick\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--out", "bundle"], "--cohort"),
        (["train", "--out", "bundle", "--data", "folder", "--recalibrate"], "--recalibrate"),
        (["train", "--out", "bundle", "--cohort", "site.parquet", "--docs", "docs"], "--docs"),
    ],
)
def test_options_that_do_not_go_together_are_named(arguments: list[str], named: str) -> None:
    """Exit code 2 and one sentence, before anything is started."""
    done = run("model", *arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_scoring_names_the_table_that_is_missing(tmp_path: Path) -> None:
    """Exit code 1, the first missing file by name, and no half-written answer."""
    done = run("model", "score", "--data", tmp_path, "--dataset", "hancock", "--out", tmp_path / "scores.csv")
    assert done.returncode == 1
    assert "has no file clinical.csv" in done.stderr
    assert not (tmp_path / "scores.csv").exists()


def test_scoring_writes_a_row_for_every_patient(data_folder: Path, tmp_path: Path) -> None:
    """All 763 of HANCOCK, in order; the 49 with primary metastasis have a reason instead of a number."""
    out = tmp_path / "scores.csv"
    assert start_scoring(["--data", str(data_folder), "--dataset", "hancock", "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 763
    assert sum(row["reason"].startswith("primary metastasis") for row in rows) == 49
    assert all((row["abstained"] == "false") == (row["risk_death_5y"] != "") for row in rows)
