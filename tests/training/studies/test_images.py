"""The image study sees no image before it was made, and no copied one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.cohorts.hn1 import read_hn1
from training.cohorts.hnscc_mdacc import BodyImage, HnsccPatient, read_hnscc
from training.studies.images import LANDMARK_DAYS, clean_survivors, planning_image, second_image

_SECOND = "+ CT after (second time point)"


@pytest.fixture(scope="module")
def patients(data_folder: Path) -> list[HnsccPatient]:
    """The clean survivors."""
    return clean_survivors(read_hnscc(data_folder / "hnscc_mdacc"))


def test_copied_rows_and_early_deaths_are_left_out(patients: list[HnsccPatient]) -> None:
    """215 minus 42 copies minus three who were not followed beyond six months."""
    assert len(patients) == 170
    assert all(patient.last_days > LANDMARK_DAYS for patient in patients)


def test_an_image_made_after_the_landmark_changes_nothing(patients: list[HnsccPatient]) -> None:
    """The leak test: shuffled muscle and fat of later images leave every column as it was."""
    expected = second_image(patients)
    later = [p.after.day is None or p.after.day > LANDMARK_DAYS for p in patients]
    assert sum(later) == 47
    changed = [
        replace(p, after=BodyImage(muscle=1.0, fat=1.0, day=p.after.day)) if late else p
        for p, late in zip(patients, later, strict=True)
    ]
    found = second_image(changed)
    for name, block in expected.blocks.items():
        assert np.array_equal(block, found.blocks[name], equal_nan=True)


def test_a_recurrence_after_the_landmark_is_not_known_at_it(patients: list[HnsccPatient]) -> None:
    """The column of recurrences so far stays zero for who recurs later."""
    first = replace(patients[0], illness_days=LANDMARK_DAYS + 1.0)
    second = replace(patients[0], illness_days=LANDMARK_DAYS - 1.0)
    assert second_image([first, second]).blocks["clinical"][:, -1].tolist() == [0.0, 1.0]


def test_without_a_first_image_there_is_no_change(patients: list[HnsccPatient]) -> None:
    """An undated first image, or one made under treatment, leaves both image blocks unknown."""
    for day in (None, 10.0):
        lost = replace(patients[0], before=replace(patients[0].before, day=day))
        blocks = second_image([lost]).blocks
        assert np.isnan(blocks["+ CT before"]).all()
        assert np.isnan(blocks[_SECOND]).all()


def test_planning_images_are_known_for_all(data_folder: Path) -> None:
    """Every HN1 patient has the tumour's shape; clinical gaps stay gaps."""
    nested = planning_image(read_hn1(data_folder / "hn1"))
    assert nested.blocks["+ planning CT"].shape == (137, 3)
    assert np.isfinite(nested.blocks["+ planning CT"]).all()
    assert np.isnan(nested.blocks["clinical"]).any()
