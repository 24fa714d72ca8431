"""`adjuvant model`: what it offers, and what it says of a wrong option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapter.cli.model import Dataset
from tests.fakes.command import run
from training.score import DATASETS

_ROOT = Path(__file__).parents[3]


def test_every_dataset_that_can_be_scored_is_offered() -> None:
    """Law: the command and the module that it starts know the same datasets."""
    assert set(Dataset) == set(DATASETS)


@pytest.mark.real
def test_a_dataset_that_nobody_knows_is_refused_by_the_command_itself(tmp_path: Path) -> None:
    """Exit 2 with every dataset by name. Breach: the usage of `python -m training.score`, which nobody had typed."""
    done = run("model", "score", "--dataset", "foo", "--data", tmp_path, "--out", tmp_path / "scores.csv")
    assert (done.returncode, "training.score" in done.stderr) == (2, False)
    assert all(name in done.stderr for name in DATASETS)
    assert "model score" in done.stderr


@pytest.mark.real
def test_help_names_only_files_that_exist() -> None:
    """Breach: `model train --help` sent people to docs/site_cohort.md, which was never written."""
    told = run("model", "train", "--help").stdout
    named = re.findall(r"(?:docs|training)/\s*[\w/]+\.\w+", told)
    assert named
    assert [name for name in named if not (_ROOT / "".join(name.split())).is_file()] == []
