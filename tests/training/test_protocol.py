"""Who is trained on and who is tested is decided once, and nobody is on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from tests.training.patients import cohort, row  # after the skip
from training.crossvalidate import FOLDS, Study, folds
from training.postoperative_contract import METASTASIS, postoperative_contract
from training.protocol import (
    are_copies,
    lookalikes,
    oropharynx_study,
    reverse_study,
    shuffled_study,
    transfer_study,
)

_FIRST, _SECOND = cohort(30), cohort(20, seed=9)
_STUDY = Study(name="landmark", rows=_FIRST, others=_SECOND, contract=postoperative_contract())


def test_every_patient_is_tested_once_in_a_repeat_and_never_trained_on_then() -> None:
    """Breach: a metric on training data."""
    splits = list(folds(53, repeats=2))
    assert len(splits) == 2 * FOLDS
    for start in (0, FOLDS):
        tested = np.concatenate([test for _, test in splits[start : start + FOLDS]])
        assert sorted(tested) == list(range(53))
    for train, test in splits:
        assert sorted([*train, *test]) == list(range(53))


def test_folds_are_the_same_on_every_run() -> None:
    """Every model that is compared has them, today and tomorrow."""
    for (left, _), (right, _) in zip(folds(20), folds(20), strict=True):
        assert left.tolist() == right.tolist()


@pytest.mark.parametrize(("make", "tested"), [(transfer_study, _SECOND), (reverse_study, _FIRST)])
def test_another_cohort_is_tested_by_a_model_that_never_saw_it(make: object, tested: object) -> None:
    """Neither as rows nor beside them."""
    study = make(_STUDY)  # type: ignore[operator]
    ((train, test),) = study.splits()
    assert tuple(study.rows[index] for index in test) == tested
    assert not set(train) & set(test)
    assert study.others == ()


def test_the_oropharynx_is_tested_by_all_other_sites() -> None:
    """And no second cohort helps, as in the published split."""
    contract = postoperative_contract(metastasis=True)
    place = [entry.name for entry in contract.static].index("oropharynx")
    rows = [row(None, 4.0, died=False, contract=contract, name=str(number)) for number in range(6)]
    for number in (1, 4):
        rows[number].model_input.static[place] = 1.0
    study = oropharynx_study(Study(name="published", rows=tuple(rows), others=_SECOND, contract=contract))
    assert study.tested == (1, 4)
    assert study.others == ()


def test_exchanged_outcomes_are_marked_as_such() -> None:
    """They must never be taken for the real folds."""
    assert (shuffled_study(_STUDY).shuffled, shuffled_study(_STUDY).name) == (True, "shuffled")


def test_the_shipped_contract_asks_nothing_about_metastasis() -> None:
    """Whoever has distant metastasis is not assessed; the entry serves comparison with earlier work only."""
    assert METASTASIS not in [entry.name for entry in postoperative_contract().static]
    assert postoperative_contract(metastasis=True).static[-1].name == METASTASIS


def test_a_copied_patient_is_told_from_one_who_looks_alike() -> None:
    """A copied row in training and test would be a leak; patients of whom little is known do not even look alike."""
    full = [row(None, end, died=False, name=name) for name, end in (("a", 4.0), ("b", 4.0), ("c", 4.0), ("d", 9.0))]
    for entry in full:
        entry.model_input.static_mask[:] = 1.0
    full[1].model_input.static[3] = 1.0
    pairs = lookalikes(full)
    assert [(one.patient_id, other.patient_id) for one, other in pairs] == [("a", "c"), ("c", "d")]
    assert [are_copies(*pair) for pair in pairs] == [True, False]
    assert lookalikes([replace(_FIRST[0], patient_id="e"), _FIRST[0]]) == []
